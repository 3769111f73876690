"""Evaluates networks by the published protocols of image retrieval; the step evaluate."""
