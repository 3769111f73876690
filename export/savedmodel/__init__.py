"""Exports networks as SavedModels for TensorFlow Serving, and contains the step export-saved-model."""
