"""Exports Keras networks as ONNX files, and contains the step export-onnx."""
