"""The exceptions of structure from motion."""

from keras_retrieval.errors import RetrievalError


class ReconstructionError(RetrievalError, ValueError):
    """Photos cannot be reconstructed, or a file of an earlier run is damaged or does not match the photos any more."""


class VocabularyNotFoundError(RetrievalError, FileNotFoundError):
    """The file of a COLMAP vocabulary tree does not exist."""


class ModelError(RetrievalError, ValueError):
    """A folder is not a COLMAP model, its files are damaged, or its images cannot be found among the photos."""
