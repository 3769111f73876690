"""The errors that are raised in the evaluation of networks."""

from keras_retrieval.errors import RetrievalError


class GroundTruthError(RetrievalError, ValueError):
    """The ground truth of a dataset is missing or damaged, or does not fit the photos."""


class CollectionError(RetrievalError, ValueError):
    """A query or all database photos of a collection cannot be read, or its distractors were described differently."""
