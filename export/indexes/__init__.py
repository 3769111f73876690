"""Opens indexes of every kind with `open_index`, and contains the steps index, update and search."""
