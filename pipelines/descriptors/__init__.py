"""Computes descriptors of photos with a network and learns whitenings: the commands `extract` and `whiten`."""
