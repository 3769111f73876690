"""Computes descriptors of photos with a network, and learns Lw and PCA from them: the command `extract`."""
