"""Synthetic photos: invented buildings as textured solids, cameras and a renderer; the step sample-photos."""
