"""From pixels to folders of descriptors; the steps extract and whiten."""
