"""The exceptions of localisation."""

from keras_retrieval.errors import RetrievalError


class LocalizationError(RetrievalError, ValueError):
    """Photos cannot be localised: descriptors, features or a camera do not fit the model or the photos."""
