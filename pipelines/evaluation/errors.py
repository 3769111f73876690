"""The errors that are raised in the evaluation of networks."""

from keras_retrieval.errors import RetrievalError


class GroundTruthError(RetrievalError, ValueError):
    """The ground truth of a dataset cannot be used.

    The ground truth is missing or damaged, the folder of photos contains no photo or no query of the dataset, or the
    box of a query is outside its photo.
    """


class CollectionError(RetrievalError, ValueError):
    """The descriptors of a collection cannot be computed.

    A query or all photos of the database cannot be read, or the given descriptors of the distractors were computed with
    another network or other options.
    """
