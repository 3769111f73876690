"""The interface of an index: `NeighbourIndex`, hits and filters, checks of its input, settings, tuning, errors."""
