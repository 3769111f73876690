"""The option `--box`: the part of a query photo to search with."""

from keras_retrieval.errors import ArgumentError

Box = tuple[float, float, float, float]
BOX_HELP = "Search with this part of the query photo only: left,top,right,bottom in pixels."


def parse_box(text: str | None) -> Box | None:
    """Reads "left,top,right,bottom"; None stays None.

    Raises:
        ArgumentError: the text is not four numbers.
    """
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(number) for number in text.split(","))
    except ValueError:
        raise ArgumentError(f"--box must be left,top,right,bottom in pixels of the query photo, got {text}") from None
    return left, top, right, bottom
