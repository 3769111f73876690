"""Learns whitenings and linear adaptations of descriptors: the command `whiten`."""
