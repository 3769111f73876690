"""Imports pycolmap."""

from typing import Any

from keras_retrieval.errors import missing_extra


def load_colmap() -> Any:
    """Imports pycolmap and limits its log to fatal errors.

    Returns:
        The module pycolmap.

    Raises:
        MissingExtraError: pycolmap is not installed.
    """
    # Pillow's zlib must be loaded before pycolmap's own; otherwise saving a PNG ends the process.
    import PIL.Image  # noqa: F401

    try:
        import pycolmap
    except ImportError as error:
        raise missing_extra("COLMAP", "sfm", error) from error
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)
    return pycolmap
