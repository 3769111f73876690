"""The error of exporting a SavedModel."""

from keras_retrieval.errors import RetrievalError


class SavedModelError(RetrievalError, ValueError):
    """A network cannot be exported, or an exported version does not describe photos as the network does in Keras."""
