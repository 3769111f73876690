"""The index in a folder: ScaNN's hashes and our rows in an immutable segment, and a write-ahead log of changes."""
