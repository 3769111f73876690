"""Removal of unrelated photos from landmark folders; the step clean."""
