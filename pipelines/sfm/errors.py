"""The errors of structure from motion."""

from keras_retrieval.errors import RetrievalError


class ReconstructionError(RetrievalError, ValueError):
    """Photos cannot be reconstructed, or a file of an earlier run is damaged or no longer matches the photos."""


class VocabularyNotFoundError(RetrievalError, FileNotFoundError):
    """A vocabulary tree does not exist."""
