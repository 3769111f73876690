"""The interface of an index: `NeighbourIndex`, hits, filters, checks of its input, settings."""
