"""Local features of photos in keras.ops: keypoints with descriptors, by which two photos are matched point by point."""
