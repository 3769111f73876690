"""The photos that a search found for a query, and how well they match where folders are objects."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np


@dataclass(frozen=True)
class Found:
    """A query's ranking.

    Attributes:
        query: its path.
        names: of the photos found, best first; without the query itself.
        scores: of those photos.
        own: the query's own name in the index, or None.
    """

    query: Path
    names: list[str]
    scores: np.ndarray
    own: str | None


def name_in(folder: Path, path: Path) -> str:
    """A photo's name in the folder of the index's photos, or its whole path if it is not there."""
    root = folder.resolve()
    # A link in the folder is a photo of its own; a link to the folder's photo is that photo.
    for place in (path.parent.resolve() / path.name, path.resolve()):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return str(path.absolute())


def of_same_object(names: list[str], query: Found) -> np.ndarray:
    """Which of these photos lie in a folder of the query's: (n,) bool. The query itself counts too."""
    folders = [PurePosixPath(name).parent for name in names]
    if query.own is None:
        return np.array([folder.name == query.query.absolute().parent.name for folder in folders], bool)
    return np.array([folder == PurePosixPath(query.own).parent for folder in folders], bool)


def average_precision(names: list[str], found: list[Found]) -> np.ndarray:
    """AP of each query, photos of its own folder being right; NaN where there is no other photo of it."""
    from keras_retrieval.metrics import retrieval

    if not any("/" in name for name in names):
        raise ValueError("--score needs one folder for the photos of each object, and the index's photos have none")
    row_of = {name: row for row, name in enumerate(names)}
    positives = [np.flatnonzero(of_same_object(names, query)) for query in found]
    positives = [rows[rows != row_of.get(query.own or "")] for rows, query in zip(positives, found, strict=True)]
    if not any(map(len, positives)):
        raise ValueError("--score: no query has another photo in its folder")
    depth = max(len(query.names) for query in found)
    ranks = np.full((depth, len(found)), -1)
    for column, query in enumerate(found):
        ranks[: len(query.names), column] = [row_of[name] for name in query.names]
    return retrieval(ranks, positives).ap


def mean_average_precision(figures: np.ndarray) -> str:
    return f"mAP {100 * np.nanmean(figures):.1f} over {np.count_nonzero(~np.isnan(figures))} queries"
