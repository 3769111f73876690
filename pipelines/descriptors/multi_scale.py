"""Help texts and parsing of the options of multi-scale descriptors, shared by all commands that compute descriptors."""

from keras_retrieval.errors import ArgumentError

SCALES_HELP = "Factors on the photo's size, such as 1,0.7071,0.5; the descriptors at all scales are combined."
ANTIALIAS_HELP = (
    "Antialias photos that are resized to scales below 1. The published PyTorch networks were measured with "
    "--no-antialias."
)
MIRROR_HELP = "Combine the descriptors of each photo and of its mirror image, at every scale."


def parse_scales(scales: str) -> tuple[float, ...]:
    """Parses the value of the option `--scales`.

    Args:
        scales: factors, separated by commas, such as "1,0.7071,0.5".

    Returns:
        The factors as numbers.

    Raises:
        ArgumentError: the text is not a list of numbers above 0 and up to 4.
    """
    try:
        found = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < scale <= 4 for scale in found):
        raise ArgumentError(f"--scales must be factors above 0 and up to 4, such as 1,0.7071,0.5, got {scales}")
    return found
