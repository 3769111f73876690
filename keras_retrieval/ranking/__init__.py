"""Descriptors as rows, exact search, diffusion and the methods applied at query time, in numpy."""
