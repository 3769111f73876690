"""Localisation: poses of photos in COLMAP models, with an index to find the photos of the model."""
