"""Exports networks as SavedModels for TensorFlow Serving; the step export-saved-model."""
