"""Training tuples: queries, positives and clusters of photos from any source; the step tuples."""
