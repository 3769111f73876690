"""Training tuples: queries, their positives, and clusters of photos, from any source; the step tuples."""
