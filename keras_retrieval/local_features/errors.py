"""The error of local features."""

from ..errors import RetrievalError


class LocalFeatureError(RetrievalError, ValueError):
    """Weights or a network do not compute local features, or local features cannot be matched."""
