"""Photos: file formats, decoding, edge maps, the cache of resized photos, augmentation, boxes and positions."""
