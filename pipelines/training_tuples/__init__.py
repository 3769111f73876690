"""Training tuples: the step `tuples`, which makes queries, their positives and clusters of photos from many sources."""
