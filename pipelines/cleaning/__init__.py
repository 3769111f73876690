"""Removes unrelated photos from folders of landmark photos; the step clean."""
