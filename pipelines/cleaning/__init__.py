"""Removal of unrelated photos from folders of landmarks; the step clean."""
