"""Opens indexes of every kind with `open_index`; the steps index, update and search."""
