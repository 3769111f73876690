"""The error raised when the export of a SavedModel fails."""

from keras_retrieval.errors import RetrievalError


class SavedModelError(RetrievalError, ValueError):
    """A network cannot be exported, or the descriptors of an exported version differ from those in Keras."""
