"""Decoding of photo files by operations of a TensorFlow graph."""
