"""A landmark's folder cleaned: its photos matched, the largest group kept, the landmark's box found in each of them."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..files.components import connected
from ..files.durable import fingerprint, write_file
from ..photos.formats import photo_state
from ..photos.reader import photo_size
from ..sfm.candidate_pairs import all_pairs, vocabulary_pairs
from ..sfm.colmap import Database, Pair, load_colmap
from ..sfm.photos import prepare
from .box_diffusion import Carry, diffuse

NOTE, DATABASE, VERSION = "landmark.json", "database.db", 1
ALIGNED = 0.02  # of a photo's longer side: a match that an affine transform misses by less agrees with it
LEAST_ALIGNED = 10  # matches that must agree for a box to be carried over
LEAST_SIDE = 8.0  # pixels: a smaller box shows nothing


@dataclass(frozen=True)
class Options:
    """How a landmark is cleaned; the options of `clean` of the same names."""

    neighbours: int
    min_inliers: int
    min_photos: int
    features: int
    size: int
    seed: int


@dataclass(frozen=True)
class Landmark:
    """What came of a landmark, JSON-able.

    Attributes:
        name: of its folder.
        kept: its photos of the largest group, sorted.
        left_out: name -> reason, of the others.
        boxes: name -> left, top, right, bottom in pixels, of those kept.
        pairs: how many were tried.
        verified: how many of these agree on one geometry.
        steps: of the boxes' diffusion.
    """

    name: str
    kept: list[str]
    left_out: dict[str, str]
    boxes: dict[str, list[float]]
    pairs: int
    verified: int
    steps: int


def clean_landmark(name: str, photos: Path, names: Sequence[str], work: Path, options: Options) -> Landmark:
    """Cleans a landmark, or finds it done; a killed run goes on with its features and pairs.

    Args:
        name: of the landmark.
        photos: the folder of all photos.
        names: those of the landmark.
        work: its own folder, for COLMAP's database, images and landmark.json.
        options: how.

    Raises:
        ValueError: a photo has changed since the work was begun.
        ImportError: COLMAP is not installed.
    """
    made = fingerprint(VERSION, asdict(options), [[one, *photo_state(photos / one)] for one in names])
    path = work / NOTE
    if found := _known(path, made):
        return found
    work.mkdir(parents=True, exist_ok=True)
    database = Database(work / DATABASE)
    left_out = prepare(photos, names, work)
    usable = [one for one in names if one not in left_out]
    left_out |= database.extract_features(work / "images", usable, {"size": options.size, "features": options.features})
    usable = [one for one in usable if one not in left_out]
    inliers = _match(database, usable, options)
    landmark = _judge(name, photos, usable, left_out, database, inliers, options)
    write_file(path, json.dumps(asdict(landmark) | {"made": made}, ensure_ascii=False))
    return landmark


def _known(path: Path, made: str) -> Landmark | None:
    """What a run with the same fingerprint noted; None where there is no such note, or it cannot be read."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        return Landmark(**note) if note.pop("made") == made else None
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        return None


def _match(database: Database, names: Sequence[str], options: Options) -> dict[Pair, int]:
    """Matches every pair, or each photo with those of most common words; the inliers of all that were tried."""
    known = set(names)
    if 0 < options.neighbours < len(names) - 1:
        pairs = vocabulary_pairs(database.path, names, options.neighbours, None)
    else:
        pairs = all_pairs(names)
    database.match([pair for pair in pairs if known.issuperset(pair)], options.seed)
    return {pair: count for pair, count in database.inliers().items() if known.issuperset(pair)}


def _judge(
    name: str,
    photos: Path,
    names: Sequence[str],
    left_out: dict[str, str],
    database: Database,
    inliers: Mapping[Pair, int],
    options: Options,
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
    """Why photos that could be matched are left out."""
    if not groups:
        return {}
    largest, *others = groups
    if len(largest) < min_photos:
        why = f"no group of its landmark has {min_photos} photos: the largest of {matched} has {len(largest)}"
        return {one: why for group in groups for one in group}
    reasons = {one: "its matches do not align with those of another photo" for one in largest if one not in boxes}
    for group in others:
        said = f"its group has {len(group)} photos, and the landmark's largest has {len(largest)}"
        reasons |= dict.fromkeys(group, said if len(group) > 1 else "it could be verified with no other photo")
    return reasons


def _boxes(
    photos: Path, group: Collection[str], pairs: Sequence[Pair], database: Database, seed: int
) -> tuple[dict[str, list[float]], int]:
    """The box of each photo that aligns with another one, and the steps of their diffusion."""
    sizes = {one: photo_size(photos / one)[::-1] for one in group}
    carries = list(_carries(pairs, sizes, database, seed))
    aligned = sorted({carry[1] for carry in carries})
    if not aligned:
        return {}, 0
    number = {one: row for row, one in enumerate(aligned)}
    edges = [Carry(number[source], number[target], affine, bounds) for source, target, affine, bounds in carries]
    boxes, steps = diffuse(edges, np.array([sizes[one] for one in aligned], np.float64))
    large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= LEAST_SIDE
    return {one: box.round(2).tolist() for one, box, shows in zip(aligned, boxes, large, strict=True) if shows}, steps


def _carries(
    pairs: Sequence[Pair], sizes: Mapping[str, tuple[int, int]], database: Database, seed: int
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Source, target, affine and bounds of the aligned matches, for pairs that align in both directions."""
    colmap = load_colmap()
    for pair, points in zip(pairs, database.matched_points(pairs), strict=True):
        ways = []
        for here, there in ((0, 1), (1, 0)):
            options = colmap.RANSACOptions(max_error=ALIGNED * max(sizes[pair[there]]), random_seed=seed)
            found = colmap.estimate_affine2d_robust(points[here], points[there], options)
            if found is None or found["num_inliers"] < LEAST_ALIGNED:
                break
            agreed = points[there][found["inlier_mask"]]
            bounds = np.concatenate([agreed.min(axis=0), agreed.max(axis=0)])
            ways.append((pair[here], pair[there], found["tgt_from_src"], bounds))
        if len(ways) == 2:
            yield from ways
