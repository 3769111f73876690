"""Decodes photo files in the TensorFlow graph of a served network, without Python code."""
