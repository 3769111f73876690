"""The errors that are raised for files of networks."""

from keras_retrieval.errors import RetrievalError


class NetworkError(RetrievalError, ValueError):
    """A network cannot be loaded, or does not accept the given photos (such as their size) or options."""


class ConversionError(RetrievalError, ValueError):
    """A published file cannot be converted, because it does not contain the expected network, whitening or tensors."""
