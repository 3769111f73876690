"""Structure from motion: from photos to COLMAP models; the steps reconstruct and pairs."""
