"""Rows of descriptors, exact search, diffusion, and methods at query time, in numpy."""
