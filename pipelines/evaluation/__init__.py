"""Datasets, the published protocols and their scores; the step evaluate."""
