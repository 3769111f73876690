"""Indexes of every kind: `open_index`, and the steps index, update and search."""
