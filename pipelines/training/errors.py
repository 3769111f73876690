"""The error that is raised when a training run cannot continue."""

from keras_retrieval.errors import RetrievalError


class TrainingError(RetrievalError, ValueError):
    """Training cannot continue, for example because the network has diverged.

    The message states the reason and the remedy.
    """
