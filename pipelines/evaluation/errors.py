"""The errors of evaluation."""

from keras_retrieval.errors import RetrievalError


class GroundTruthError(RetrievalError, ValueError):
    """A ground truth is missing or damaged, or does not fit the photos."""


class CollectionError(RetrievalError, ValueError):
    """The photos of a collection, its queries or its distractors cannot be described or compared."""
