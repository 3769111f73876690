"""The interface of every index: `NeighbourIndex`, hits, filters, input checks, build settings, tuning and errors."""
