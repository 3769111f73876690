"""Structure from motion: from unordered photos to COLMAP models; the steps reconstruct and pairs."""
