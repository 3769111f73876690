"""Calibration: learns from pairs of photos of the same and of other objects how probable a match is."""
