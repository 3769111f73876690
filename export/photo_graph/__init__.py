"""Decoding of photo files inside a TensorFlow graph."""
