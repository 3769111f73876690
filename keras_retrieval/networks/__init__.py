"""Retrieval networks: `build` by name, trunks, changes to networks, training models, precision and weights."""
