"""Cleans one landmark: matches its photos, keeps the largest group, and finds the landmark's box in each photo."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.errors import RetrievalError

from ..files.components import connected
from ..files.durable import FileStates, fingerprint, write_file
from ..photos.reader import photo_size
from ..photos.remote_photos import header_in, photo_states
from ..sfm.candidate_pairs import all_pairs, vocabulary_pairs
from ..sfm.colmap import Database, Pair, load_colmap
from ..sfm.photos import prepare
from .box_diffusion import Projection, diffuse
from .options import CleanOptions

NOTE, DATABASE, VERSION = "landmark.json", "database.db", 1
ALIGNED = 0.02  # maximum error of an inlier match of an affine transform, as a share of the photo's longer side
LEAST_ALIGNED = 10  # minimum number of inlier matches of an affine transform by which boxes are projected
LEAST_SIDE = 8.0  # minimum side of a box in pixels; photos with a smaller box are left out


class CleaningError(RetrievalError, ValueError):
    """Cleaning would keep no photo of any landmark; the message has the reason for the first photo."""


@dataclass(frozen=True)
class Landmark:
    """The result of cleaning a landmark. The values of its attributes can be serialised as JSON.

    Attributes:
        name: name of the landmark's folder.
        kept: names, sorted, of the photos that are kept: those of the largest group in which the landmark has a box.
        left_out: dict from the name of each other photo to the reason.
        boxes: dict from the name of each photo that is kept to the landmark's box: left, top, right, bottom in pixels.
        pairs: number of pairs of photos whose local features were matched.
        verified: number of pairs that were verified geometrically.
        steps: number of diffusion steps until the boxes converged.
    """

    name: str
    kept: list[str]
    left_out: dict[str, str]
    boxes: dict[str, list[float]]
    pairs: int
    verified: int
    steps: int


def clean_landmark(
    name: str,
    photos: Path,
    names: Sequence[str],
    work: Path,
    options: CleanOptions,
    states: FileStates | None = None,
) -> Landmark:
    """Cleans a landmark, or reads the result if the landmark was cleaned before with the same photos and options.

    If an earlier call was interrupted, its features and matches are used again.

    Args:
        name: name of the landmark.
        photos: folder of all photos, or an address such as s3://BUCKET/FOLDER as a path.
        names: names of the landmark's photos.
        work: folder for the landmark's COLMAP database, images and landmark.json.
        options: the options of `clean`.
        states: the states of the photos' files; None to ask for them.

    Raises:
        ReconstructionError: a photo has changed since an earlier run.
        RemoteError: the storage of an address does not answer, or refuses.
        MissingExtraError: COLMAP is not installed.
    """
    states = photo_states(photos, names) if states is None else states
    files = [list(file) for file in zip(names, states.sizes, states.tags, strict=True)]
    made = fingerprint(VERSION, options.facts(arguments=False), files)
    path = work / NOTE
    if found := _finished(path, made):
        return found
    work.mkdir(parents=True, exist_ok=True)
    database = Database(work / DATABASE)
    left_out = prepare(photos, names, work, options.accept_truncated, states)
    usable = [one for one in names if one not in left_out]
    left_out |= database.extract_features(work / "images", usable, {"size": options.size, "features": options.features})
    usable = [one for one in usable if one not in left_out]
    inliers = _match(database, usable, options)
    landmark = _assess(name, photos, usable, left_out, database, inliers, options)
    write_file(path, json.dumps(asdict(landmark) | {"made": made}, ensure_ascii=False))
    return landmark


def _finished(path: Path, made: str) -> Landmark | None:
    """Returns the result of a run with the same fingerprint; None if there is no such result or it cannot be read."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Landmark(**note) if note.pop("made") == made else None
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _match(database: Database, names: Sequence[str], options: CleanOptions) -> dict[Pair, int]:
    """Matches all pairs, or each photo with those most similar by visual words; returns matched pair -> inliers."""
    present = set(names)
    if 0 < options.neighbours < len(names) - 1:
        pairs = vocabulary_pairs(database.path, names, options.neighbours, None)
    else:
        pairs = all_pairs(names)
    database.match([pair for pair in pairs if present.issuperset(pair)], options.seed)
    return {pair: count for pair, count in database.inliers().items() if present.issuperset(pair)}


def _assess(
    name: str,
    photos: Path,
    names: Sequence[str],
    left_out: dict[str, str],
    database: Database,
    inliers: Mapping[Pair, int],
    options: CleanOptions,
) -> Landmark:
    verified = [pair for pair, count in inliers.items() if count >= options.min_inliers]
    groups = connected(names, verified)
    group = set(groups[0]) if groups else set()
    boxes, steps = _boxes(photos, group, [pair for pair in verified if pair[0] in group], database, options.seed)
    reasons = _reasons(groups, boxes, len(names), options.min_photos)
    kept = sorted(one for one in boxes if one not in reasons)
    return Landmark(
        name, kept, left_out | reasons, {one: boxes[one] for one in kept}, len(inliers), len(verified), steps
    )


def _reasons(
    groups: Sequence[Sequence[str]], boxes: Mapping[str, object], matched: int, min_photos: int
) -> dict[str, str]:
    """Returns photo -> reason for the photos with features that are left out."""
    if not groups:
        return {}
    largest, *others = groups
    if len(largest) < min_photos:
        why = f"no group of its landmark has {min_photos} photos: the largest of {matched} has {len(largest)}"
        return {one: why for group in groups for one in group}
    reasons = {one: "its matches do not align with those of another photo" for one in largest if one not in boxes}
    for group in others:
        smaller = f"its group has {len(group)} photos, and the landmark's largest has {len(largest)}"
        reasons |= dict.fromkeys(group, smaller if len(group) > 1 else "no pair with another photo was verified")
    return reasons


def _boxes(
    photos: Path, group: Collection[str], pairs: Sequence[Pair], database: Database, seed: int
) -> tuple[dict[str, list[float]], int]:
    """Returns the landmark's box in each photo that aligns with another photo, and the number of diffusion steps."""
    sizes = {one: header_in(photos, one, photo_size)[::-1] for one in group}
    projections = list(_projections(pairs, sizes, database, seed))
    aligned = sorted({target for _, target, _, _ in projections})
    if not aligned:
        return {}, 0
    number = {one: row for row, one in enumerate(aligned)}
    edges = [Projection(number[source], number[target], *rest) for source, target, *rest in projections]
    boxes, steps = diffuse(edges, np.array([sizes[one] for one in aligned], np.float64))
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= LEAST_SIDE
    return {one: box.round(2).tolist() for one, box, keep in zip(aligned, boxes, large, strict=True) if keep}, steps


def _projections(
    pairs: Sequence[Pair], sizes: Mapping[str, tuple[int, int]], database: Database, seed: int
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yields source, target, affine transform and bounds, for pairs that align in both directions."""
    colmap = load_colmap()
    for pair, points in zip(pairs, database.matched_points(pairs), strict=True):
        both = []
        for here, there in ((0, 1), (1, 0)):
            options = colmap.RANSACOptions(max_error=ALIGNED * max(sizes[pair[there]]), random_seed=seed)
            found = colmap.estimate_affine2d_robust(points[here], points[there], options)
            if found is None or found["num_inliers"] < LEAST_ALIGNED:
                break
            agreed = points[there][found["inlier_mask"]]
            bounds = np.concatenate([agreed.min(axis=0), agreed.max(axis=0)])
            both.append((pair[here], pair[there], found["tgt_from_src"], bounds))
        if len(both) == 2:
            yield from both
