"""Pairs of photos whose descriptors by a network are similar."""

from collections.abc import Sequence

import numpy as np

from keras_retrieval.ranking.nearest import nearest_others

from ..descriptors.extraction import extract_descriptors
from ..descriptors.folder import read_descriptors
from ..descriptors.options import ExtractOptions
from ..files.progress import progress
from .options import DuplicatesOptions

FOLDER = "descriptors"


def similar_by_network(options: DuplicatesOptions, names: Sequence[str]) -> np.ndarray:
    """Computes descriptors of all photos, and returns the pairs of each photo and the most similar others.

    The descriptors are written to the folder `descriptors` in `options.output`, where a killed run continues.

    Args:
        options: the options of `duplicates`; `model` is not None.
        names: names of the photos.

    Returns:
        (K, 2) positions in `names`.

    Raises:
        PhotoFolderError: no photo can be read.
        ValueError: the network cannot be loaded.
    """
    folder = options.output / FOLDER
    extract_descriptors(
        ExtractOptions(
            options.model or "",
            options.photos,
            folder,
            size=options.size,
            runtime=options.runtime,
            replace=True,
            **options.passed_on,
            **options.engine_passed_on,
        )
    )
    shards, described, _ = read_descriptors(folder)
    place = {name: row for row, name in enumerate(names)}
    with progress("neighbours", len(described)) as advance:
        others, _ = nearest_others(shards, options.neighbours, advance=advance)
    places = np.array([place.get(name, -1) for name in described], np.int64)
    one = np.repeat(places, others.shape[1])
    other = places[others.ravel()]
    return np.column_stack([one, other])[(one >= 0) & (other >= 0)]
