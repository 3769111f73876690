"""Runs networks by TensorFlow, ONNX Runtime, OpenVINO or ncnn, whichever is fastest; the option --runtime."""
