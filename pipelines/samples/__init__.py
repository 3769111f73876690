"""Renders synthetic photos of invented buildings with ground truth: the command `sample-photos`."""
