"""The error raised when the export of a SavedModel fails."""

from keras_retrieval.errors import RetrievalError


class SavedModelError(RetrievalError, ValueError):
    """A network cannot be exported as a SavedModel.

    The network is not supported, the descriptors of the SavedModel differ too much from those of Keras, or the index to
    export was made with another network.
    """
