"""Runs networks by TensorFlow, ONNX Runtime or OpenVINO, whichever is fastest; the option --runtime."""
