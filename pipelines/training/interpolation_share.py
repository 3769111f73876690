"""The value of the option --interpolate of `train`."""

from typing import Any

from keras_retrieval.errors import ArgumentError

AUTO = "auto"
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The shares of the trained weights that --interpolate auto compares."""


def check_share(label: str, value: Any) -> None:
    """The kind of the option `--interpolate`: "auto" or a number from 0 to 1.

    Raises:
        ArgumentError: the value is neither.
    """
    if value == AUTO:
        return
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ArgumentError(f"{label} must be auto or a number from 0 to 1, such as 0.5, got {value}")
