"""Structure from motion from unordered photos with COLMAP: the commands `reconstruct` and `pairs`."""
