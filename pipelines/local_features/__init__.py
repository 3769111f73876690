"""Extracts local features of photos into files, and verifies by geometry that two photos show the same object."""
