"""Reads photos: file formats, decoding, edge maps, a cache of resized photos, augmentation, boxes and positions."""
