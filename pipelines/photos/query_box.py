"""Parses the option `--box`, which restricts a search to a part of the query photo."""

from keras_retrieval.errors import ArgumentError

Box = tuple[float, float, float, float]
BOX_HELP = "Search with this part of the query photo only: left,top,right,bottom in pixels."


def parse_box(text: str | None) -> Box | None:
    """Parses the value of the option `--box`.

    Args:
        text: "left,top,right,bottom" in pixels of the query photo, or None if the option was not given.

    Returns:
        The box (left, top, right, bottom), or None if `text` is None.

    Raises:
        ArgumentError: the text does not consist of four numbers that are separated by commas.
    """
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(number) for number in text.split(","))
    except ValueError:
        raise ArgumentError(f"--box must be left,top,right,bottom in pixels of the query photo, got {text}") from None
    return left, top, right, bottom
