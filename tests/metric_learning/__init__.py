"""Our losses in the environment of pytorch-metric-learning: `make test-metric-learning`.

cases.py runs in our environment and writes what our losses compute, as files; against_metric_learning.py runs in the
other one, which has PyTorch and not this package, and compares.
"""
