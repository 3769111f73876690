"""Indexes of every kind: `open_index`; the steps index, update and search."""
