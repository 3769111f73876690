"""The errors of structure from motion."""

from keras_retrieval.errors import RetrievalError


class ReconstructionError(RetrievalError, ValueError):
    """Photos cannot be reconstructed, or a file of an earlier run is damaged or does not fit them any more."""


class VocabularyNotFoundError(RetrievalError, FileNotFoundError):
    """A vocabulary tree does not exist."""
