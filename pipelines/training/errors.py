"""The error of a training run that cannot continue."""

from keras_retrieval.errors import RetrievalError


class TrainingError(RetrievalError, ValueError):
    """Training cannot continue; the message states the reason and the remedy."""
