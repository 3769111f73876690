"""Localises photos in COLMAP models, by retrieval and by matches of local features with 3D points."""
