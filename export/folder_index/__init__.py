"""The index in a folder: ScaNN segments, a mutable segment, a write-ahead log."""
