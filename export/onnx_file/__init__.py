"""Exports networks as ONNX files; the step export-onnx."""
