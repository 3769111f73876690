"""Runs the units of a step's work on workers: in this process, or on a cluster of machines by Ray or Dask."""
