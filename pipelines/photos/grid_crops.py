"""Overlapping crops of a photo in grids, each of which gets a descriptor of its own (`extract --crops`)."""

from keras_retrieval.errors import ArgumentError

LARGEST_LEVEL = 8
CROPS_HELP = (
    "Levels of crops, such as 1,2,3, each of which gets a descriptor of its own: 1 is the whole photo, l an l x l grid "
    "of crops of 2 / (l + 1) of the photo's sides, neighbours overlap by half. A search counts the best crop of a "
    "photo. By default one descriptor per photo."
)

IntegerBox = tuple[int, int, int, int]


def parse_levels(text: str) -> tuple[int, ...]:
    """Parses the value of the option `--crops`.

    Args:
        text: ascending levels, separated by commas, such as "1,2,3"; "" for no crops.

    Returns:
        The levels; () for "" and for "1", one descriptor of the whole photo.

    Raises:
        ArgumentError: the text is not a list of ascending whole numbers from 1 to 8 that begins with 1.
    """
    if not text:
        return ()
    parts = [part.strip() for part in text.split(",")]
    levels = tuple(int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 4)
    if len(levels) != len(parts) or list(levels) != sorted(set(levels)) or not 1 <= levels[-1] <= LARGEST_LEVEL:
        raise ArgumentError(f"--crops must be ascending levels from 1 to {LARGEST_LEVEL}, such as 1,2,3, got {text}")
    if levels[0] != 1:
        raise ArgumentError(f"--crops must begin with 1, the whole photo, got {text}")
    return levels if len(levels) > 1 else ()


def count_crops(levels: tuple[int, ...]) -> int:
    """Returns the number of crops of a photo, the whole photo among them: 14 for the levels 1, 2 and 3; 1 for ()."""
    return sum(level * level for level in levels) or 1


def grid_boxes(width: int, height: int, levels: tuple[int, ...]) -> list[IntegerBox]:
    """Lists the crops of a photo.

    Level 1 is the whole photo, and level l an l x l grid of crops. The sides of a crop are 2 / (l + 1) of those of the
    photo, so that neighbouring crops overlap by half, as the square regions of R-MAC have the side 2 min(W, H) / (l +
    1) (Tolias, Sicre and Jégou, ICLR 2016). Unlike regions of a feature map, crops are described by the network one by
    one, at its input size, so that a small object is seen larger.

    Args:
        width: width of the upright photo in pixels.
        height: its height.
        levels: the levels, ascending.

    Returns:
        The distinct crops by level and then by row: left, top, right and bottom in whole pixels of the upright photo.
        All crops of a level have the same size.
    """
    boxes: dict[IntegerBox, None] = {}
    for level in levels:
        wide, high = (max(1, round(2 * side / (level + 1))) for side in (width, height))
        for row in range(level):
            for column in range(level):
                left, top = (
                    0 if level == 1 else round(place * (side - part) / (level - 1))
                    for place, side, part in ((column, width, wide), (row, height, high))
                )
                boxes[left, top, left + wide, top + high] = None
    return list(boxes)
