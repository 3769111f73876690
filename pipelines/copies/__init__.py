"""Copies of photos: files with the same bytes, and photos that were re-compressed, resized, cropped or turned."""
