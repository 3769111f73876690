"""Decodes photo files in a TensorFlow graph."""
