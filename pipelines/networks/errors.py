"""The errors of network files."""

from keras_retrieval.errors import RetrievalError


class NetworkError(RetrievalError, ValueError):
    """A network cannot be loaded, or does not take the photos or options that it is given."""


class ConversionError(RetrievalError, ValueError):
    """A published file does not contain the expected network, whitening or tensors."""
