"""The errors of local features and of their files."""

from keras_retrieval.errors import RetrievalError


class LocalFeaturesError(RetrievalError, ValueError):
    """Local features cannot be extracted, or stored ones do not fit what they are used for."""
