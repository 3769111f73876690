"""Network files: loading, saving, published formats; the steps build and convert."""
