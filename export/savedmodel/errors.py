"""The error raised when the export of a SavedModel fails."""

from keras_retrieval.errors import RetrievalError


class SavedModelError(RetrievalError, ValueError):
    """A network cannot be exported, the exported descriptors differ from Keras, or an index is of another network."""
