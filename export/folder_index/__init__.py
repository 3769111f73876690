"""An index in a folder: an immutable segment with ScaNN's hashes and the stored rows, and a write-ahead log."""
