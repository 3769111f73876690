"""Distances with their unit, as options state them: 50m, 1.5km."""

import math
import re

from keras_retrieval.errors import ArgumentError

_DISTANCE = re.compile(r"\s*((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(m|km)\s*", re.IGNORECASE)


def metres(text: str, option: str) -> float:
    """Converts a distance to metres.

    Args:
        text: the distance, such as "50m", "50 m" or "1.5km".
        option: the option that states the distance, for the error message.

    Raises:
        ArgumentError: the text is not a distance above 0 in m or km.
    """
    match = _DISTANCE.fullmatch(text)
    distance = float(match[1]) * (1000.0 if match[2].lower() == "km" else 1.0) if match else math.nan
    if not (math.isfinite(distance) and distance > 0):
        raise ArgumentError(f"{option} must be a distance above 0 in m or km, such as 50m or 1.5km, got {text}")
    return distance
