"""ONNX files; the step export-onnx."""
