"""Ground truth: the relevant photos of each query of a collection, and its restriction to photos that exist."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..files.name_join import JoinError, PhotoNames
from ..photos.intake import Intake, is_named_as_photo, nothing_to_take, take_photos
from .errors import GroundTruthError

Box = tuple[float, float, float, float]
Protocol = Literal["revisited", "map", "ns", "recall"]


@dataclass(frozen=True)
class GroundTruth:
    """The photos and queries of a collection, with the relevant and the ignored photos of each query.

    Attributes:
        name: name of the collection.
        protocol: how rankings are scored: "revisited" (mAP in the settings easy, medium and hard), "map" (mAP), "ns"
            (N-S score of UKBench) or "recall" (recall@N of place recognition).
        database: names of the N database photos. After `restrict`, these are paths relative to the photos' folder, with
            forward slashes.
        queries: names of the Q queries, in the same form as `database`. A query may also be in the database.
        positives: for each query, an array of the indexes of its relevant photos in `database`. With the protocol
            "revisited", only the easy ones.
        hard: for each query, the indexes of the photos that are relevant only in the settings "medium" and "hard".
            Empty arrays with other protocols; an empty list stands for empty arrays.
        junk: for each query, the indexes of the photos that are removed from its ranking before the ranking is scored.
            An empty list stands for empty arrays.
        boxes: for each query, the part of its photo that is searched for, (left, top, right, bottom) in pixels; None
            for the whole photo. An empty list stands for whole photos.
        box_side: the longer side, in pixels, of the published photos to which the boxes refer; None if the boxes refer
            to the photos as they are in the folder.
        drop_query: whether a query's own photo is removed from its ranking. Otherwise it counts as the first hit.
        panoramas: (N,) number of the panorama from which each database photo was cropped. Crops of one panorama count
            as one photo. None if photos are not crops of panoramas.
        sketches: whether the queries are line drawings.
        published: number of photos and number of queries in the complete collection; (0, 0) stands for the lengths of
            `database` and `queries`.
        lacks: a part of the collection, in words, whose size is unknown because its lists are missing too.

    Raises:
        GroundTruthError: the lists have different lengths, or an index is beyond the database.
    """

    name: str
    protocol: Protocol
    database: list[str]
    queries: list[str]
    positives: list[np.ndarray]
    hard: list[np.ndarray] = field(default_factory=list)
    junk: list[np.ndarray] = field(default_factory=list)
    boxes: list[Box | None] = field(default_factory=list)
    box_side: int | None = None
    drop_query: bool = False
    panoramas: np.ndarray | None = None
    sketches: bool = False
    published: tuple[int, int] = (0, 0)
    lacks: str = ""

    def __post_init__(self) -> None:
        count = len(self.queries)
        nothing = np.zeros(0, "int64")
        for name, default in (("hard", nothing), ("junk", nothing), ("boxes", None)):
            if not getattr(self, name):
                object.__setattr__(self, name, [default] * count)
        if self.published == (0, 0):
            object.__setattr__(self, "published", (len(self.database), count))
        self._check()

    def _check(self) -> None:
        for label in (self.positives, self.hard, self.junk):
            if len(label) != len(self.queries):
                raise GroundTruthError(f"{self.name}: {len(self.queries)} queries have answers for {len(label)}")
            for query, rows in zip(self.queries, label, strict=True):
                if len(rows) and not 0 <= rows.min() <= rows.max() < len(self.database):
                    raise GroundTruthError(
                        f"{self.name}: query {query} refers to a photo beyond the {len(self.database):,} listed"
                    )

    @property
    def partial(self) -> str | None:
        """A text such as "partial: 1,070 of 4,993 photos, 28 of 70 queries"; None if no photo or query is missing."""
        photos, queries = self.published
        if len(self.database) >= photos and len(self.queries) >= queries and not self.lacks:
            return None
        text = f"partial: {len(self.database):,} of {photos:,} photos, {len(self.queries):,} of {queries:,} queries"
        return f"{text}, {self.lacks}" if self.lacks else text

    def box(self, query: int, size: tuple[int, int]) -> Box | None:
        """Returns the box of a query in pixels of its photo, which may be smaller than the published photo.

        Args:
            query: index of the query in `queries`.
            size: (width, height) of the query's photo in pixels.

        Returns:
            (left, top, right, bottom), clipped to the photo; None if the whole photo is searched for.

        Raises:
            GroundTruthError: the box is outside the photo.
        """
        box = self.boxes[query]
        if box is None:
            return None
        scale = max(size) / self.box_side if self.box_side else 1.0
        left, top = max(box[0] * scale, 0.0), max(box[1] * scale, 0.0)
        right, bottom = min(box[2] * scale, float(size[0])), min(box[3] * scale, float(size[1]))
        if right - left < 1 or bottom - top < 1:
            raise GroundTruthError(f"{self.name}: the box {box} is outside of {self.queries[query]}, {size}")
        return left, top, right, bottom

    def settings(self) -> dict[str, tuple[list[np.ndarray], list[np.ndarray]]]:
        """Returns the relevant and the ignored photos of each query in each setting of the protocol.

        The settings are "easy", "medium" and "hard" with the protocol "revisited", and "all" with other protocols.

        Returns:
            A dict from each setting to (positives, junk). Both are lists that contain, for each query, an array of
            indexes into `database`. With `drop_query`, a query's own photo is in its junk.
        """
        positives, hard, junk = self.labels()
        if self.protocol != "revisited":
            return {"all": (positives, junk)}
        both = [np.concatenate(parts) for parts in zip(positives, hard, strict=True)]
        return {
            "easy": (positives, [np.concatenate(parts) for parts in zip(junk, hard, strict=True)]),
            "medium": (both, junk),
            "hard": (hard, [np.concatenate(parts) for parts in zip(junk, positives, strict=True)]),
        }

    def labels(self) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
        """Returns `positives`, `hard` and `junk`; with `drop_query`, each query's own photo is moved to its junk."""
        if not self.drop_query:
            return self.positives, self.hard, self.junk
        rows = {name: row for row, name in enumerate(self.database)}
        own = [np.array([rows[name]] if name in rows else [], "int64") for name in self.queries]
        positives, hard = (
            [np.setdiff1d(one, self_row) for one, self_row in zip(label, own, strict=True)]
            for label in (self.positives, self.hard)
        )
        return positives, hard, [np.union1d(*parts) for parts in zip(self.junk, own, strict=True)]


class PhotoList:
    """Lists the photos in a folder and its sub-folders, and finds them by path, by name, or by name without suffix.

    Files with the extension of a photo whose content is something else are listed too, so that they count as left out
    and not as missing.

    Args:
        folder: the folder.
        take: the function that takes the photos of the folder, such as `IntakeOptions.take`.

    Attributes:
        folder: the folder.
        paths: paths of all photos relative to the folder, with forward slashes.

    Raises:
        PhotoFolderError: the folder does not exist or contains no photos.
    """

    def __init__(self, folder: Path, take: Callable[..., Intake] = take_photos) -> None:
        self.folder = folder
        intake = take(folder, required=False)
        self.paths = sorted([*intake.photos, *filter(is_named_as_photo, intake.left_out)])
        if not self.paths:
            raise nothing_to_take(intake)
        self._names = PhotoNames(self.paths)
        self._all = set(self.paths)

    def __contains__(self, path: object) -> bool:
        return path in self._all

    def find(self, name: str) -> str | None:
        """Returns the path of a photo relative to the folder; None if there is no such photo.

        Args:
            name: path of the photo relative to the folder, its name, or its name without suffix; the module
                `files.name_join` states the rules.

        Raises:
            GroundTruthError: several photos may be meant.
        """
        try:
            row = self._names.find(name)
        except JoinError as error:
            raise GroundTruthError(f"{self.folder}: {error}") from None
        return None if row is None else self.paths[row]

    def inside(self, folder: str) -> list[str]:
        """Returns the paths, relative to `folder`, of the photos in a sub-folder and the folders below it.

        Args:
            folder: path of the sub-folder relative to the folder of all photos; "." returns the paths of all photos.
        """
        start = "" if folder.strip("/") in ("", ".") else f"{folder.strip('/')}/"
        return [path for path in self.paths if path.startswith(start)]


def restrict(ground_truth: GroundTruth, photos: PhotoList, *, exact: bool = False) -> GroundTruth:
    """Restricts a published ground truth to the photos that exist.

    Missing photos are removed from the database and from all lists of positives and junk. A query is removed if its
    photo is missing or if it has no positive left. With the protocol "recall", a query without positives is kept,
    because recall@N counts such a query as missed.

    Args:
        ground_truth: a ground truth with the published names of photos, with or without suffix.
        photos: the photos that exist.
        exact: whether names are paths relative to the photos' folder, so that a missing photo is not looked for in
            other folders, where another photo may have its name.

    Returns:
        The restricted ground truth, in which names are paths relative to the photos' folder. Its attribute `partial`
        states how many photos and queries are left.

    Raises:
        GroundTruthError: no photo or no query is left, or several photos have a name that is in the ground truth.
    """
    find = (lambda name: name if name in photos else None) if exact else photos.find
    paths = [find(name) for name in ground_truth.database]
    rows = np.array([row for row, path in enumerate(paths) if path], "int64")
    if not len(rows):
        example = ground_truth.database[0] if ground_truth.database else "none is listed"
        raise GroundTruthError(
            f"{photos.folder} contains none of the {len(paths):,} photos of {ground_truth.name} (such as {example})"
        )
    new_row = np.full(len(paths), -1, "int64")
    new_row[rows] = np.arange(len(rows))
    restricted = replace(
        ground_truth,
        database=[path for path in paths if path],
        queries=[find(name) or "" for name in ground_truth.queries],
        positives=_renumbered(ground_truth.positives, new_row),
        hard=_renumbered(ground_truth.hard, new_row),
        junk=_renumbered(ground_truth.junk, new_row),
        panoramas=None if ground_truth.panoramas is None else ground_truth.panoramas[rows],
    )
    return _answerable(restricted, photos.folder)


def find_ground_truth(name: str, photos: PhotoList, gnd: Path | None, source: str) -> Path:
    """Finds the file or folder of a published ground truth.

    Args:
        name: the published file name.
        photos: the photos that exist.
        gnd: a path given by the user; None looks for `name` in the photos' folder, beside it, and in a folder `gnd`
            beside it.
        source: address where the ground truth is published, for the error message.

    Returns:
        The path of the existing file or folder.

    Raises:
        GroundTruthError: the file or folder does not exist; the message states where the ground truth is published.
    """
    folder = photos.folder
    tried = [gnd] if gnd else [folder / name, folder.parent / name, folder.parent / "gnd" / name]
    for path in tried:
        if path.exists():
            return path
    paths = ", ".join(map(str, tried))
    raise GroundTruthError(f"there is no ground truth at {paths}: it is published at {source}; give its path as --gnd")


def _renumbered(label: list[np.ndarray], new_row: np.ndarray) -> list[np.ndarray]:
    moved = (new_row[np.asarray(rows, "int64")] for rows in label)
    return [rows[rows >= 0] for rows in moved]


def _answerable(ground_truth: GroundTruth, folder: Path) -> GroundTruth:
    """Keeps the queries whose photo exists and that have a positive, which is not required by the protocol "recall"."""
    positives, hard, _ = ground_truth.labels()
    everything = ground_truth.protocol == "recall"
    kept = [
        query
        for query, name in enumerate(ground_truth.queries)
        if name and (everything or len(positives[query]) + len(hard[query]))
    ]
    if not kept:
        raise GroundTruthError(f"{folder} contains no query of {ground_truth.name} together with a relevant photo")
    return replace(
        ground_truth,
        queries=[ground_truth.queries[query] for query in kept],
        positives=[ground_truth.positives[query] for query in kept],
        hard=[ground_truth.hard[query] for query in kept],
        junk=[ground_truth.junk[query] for query in kept],
        boxes=[ground_truth.boxes[query] for query in kept],
    )
