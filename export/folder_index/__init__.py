"""An index in a folder, `FolderIndex`, that can be changed while it is searched.

The folder contains a segment, which is immutable and holds the stored descriptors and ScaNN's hashes of them, and a
write-ahead log of the photos added and deleted since the segment was built.
"""
