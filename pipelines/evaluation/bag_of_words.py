"""Ranks photos by visual words and geometric verification, the classical baseline to which networks are compared.

Following Sivic and Zisserman (ICCV 2003) and Philbin et al. (CVPR 2007), photos are ranked by visual words in common
with the query, and the top of the ranking is reranked by the number of geometrically consistent matches.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..files.durable import atomic_path, fingerprint, read_json, write_file
from ..photos.reader import Crop, PhotoError, read_photo
from ..sfm.colmap import Database, load_colmap, ordered, photo_name
from ..sfm.photos import prepare
from ..sfm.visual_words import build_index, make_vocabulary, rank_by_words
from .collection import query_box
from .errors import CollectionError
from .ground_truth import GroundTruth
from .options import EvaluateOptions
from .rankings import Ranking, depth_of

CROPS = ".queries"  # folder of cropped queries among the images; it begins with a dot, which no photo's name does
SECONDS = "seconds.json"
SEED = 0  # random seed of RANSAC


def rank_by_visual_words(truth: GroundTruth, options: EvaluateOptions) -> Ranking:
    """Ranks the database photos for each query by visual words, whose vocabulary is learned from the database.

    Queries are cropped to their boxes at full resolution and then reduced to `options.size` if they are larger. Photos
    that share no word with a query are ranked after those that do, in the order of the database. The first
    `options.words_verified` photos of each ranking are then verified and reranked.

    Args:
        truth: the ground truth, restricted to the photos in `options.photos`.
        options: the options of `evaluate`, of which `photos`, `output`, `size`, `features` and `verify` are used.
            Features, words and verified pairs are stored in a folder words-* below `output`, one for each combination
            of `size` and `features`.

    Returns:
        The rankings of all queries.

    Raises:
        CollectionError: a query cannot be read, or the photos have too few features for a vocabulary.
        MissingExtraError: COLMAP is not installed.
    """
    load_colmap()
    photos = options.photos
    work = options.output / f"words-{fingerprint(options.size, options.words_features)}"
    work.mkdir(parents=True, exist_ok=True)
    boxes = [query_box(truth, query, photos) for query in range(len(truth.queries))]
    queries = [_query_name(truth, query, box, options.size) for query, box in enumerate(boxes)]
    database, left_out = _with_features(truth, boxes, queries, work, options)
    rows = {name: row for row, name in enumerate(truth.database) if name not in left_out}
    found, index, seconds = _search(database, list(rows), queries, work)
    ranked = [_with_the_rest([rows[name] for name in found.get(query, []) if name in rows], rows) for query in queries]
    if options.words_verified:
        seconds += len(queries) * _verify(database, truth, queries, ranked, options)
    facts = {
        "size": options.size,
        "features": options.words_features,
        "verify": options.words_verified,
        "milliseconds_per_query": round(1000 * seconds / len(queries), 3),
        "bytes_per_photo": round(index / len(rows)),
    }
    method = [
        f"visual words, at most {options.words_features:,} SIFT features at {options.size} px",
        f"the first {options.words_verified} verified by geometry"
        if options.words_verified
        else "not verified by geometry",
    ]
    ranks = np.array(ranked, np.int64).T[: depth_of(truth)]
    reasons = {name: left_out[name] for name in truth.database if name in left_out}
    return Ranking(
        ranks, boxes, lambda query: photos / truth.queries[query], lambda row: photos / truth.database[row], reasons,
        method, facts,
    )  # fmt: skip


def _with_features(
    truth: GroundTruth,
    boxes: Sequence[Crop | None],
    queries: Sequence[str],
    work: Path,
    options: EvaluateOptions,
) -> tuple[Database, dict[str, str]]:
    """Returns COLMAP's database with the features of all photos and crops, and photo -> reason of photos without."""
    photos = options.photos
    whole = [name for name, box in zip(queries, boxes, strict=True) if box is None]
    names = list(dict.fromkeys([*truth.database, *whole]))
    left_out = prepare(photos, names, work)
    for query in whole:
        if query in left_out:
            raise CollectionError(f"the query {photos / query} cannot be read: {left_out[query]}")
    _write_crops(truth, photos, boxes, queries, work / "images", options.size)
    database = Database(work / "database.db")
    usable = [name for name in names if name not in left_out] + sorted(set(queries) - set(names))
    extraction = {"size": options.size, "features": options.words_features}
    return database, left_out | database.extract_features(work / "images", usable, extraction)


def _query_name(truth: GroundTruth, query: int, box: Crop | None, size: int) -> str:
    """Returns the name of the image of a query: the name of its photo, or the name of a crop."""
    name = truth.queries[query]
    return name if box is None else f"{CROPS}/{fingerprint(name, box, size)}.png"


def _write_crops(
    truth: GroundTruth, photos: Path, boxes: Sequence[Crop | None], queries: Sequence[str], images: Path, size: int
) -> None:
    for query, box in enumerate(boxes):
        path = images / queries[query]
        if box is None or path.exists():
            continue
        try:
            pixels = read_photo(photos / truth.queries[query], size=size, crop=box)
        except PhotoError as error:
            raise CollectionError(f"the query {error.path} cannot be read: {error.reason}") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")


def _search(
    database: Database, names: Sequence[str], queries: Sequence[str], work: Path
) -> tuple[dict[str, list[str]], int, float]:
    """Returns query -> ranked photos, the bytes of the index without its vocabulary, and the seconds of the search."""
    with load_colmap().Database.open(database.path) as features:
        name_of = {image.image_id: photo_name(image.name) for image in features.read_all_images()}
        number = {name: image for image, name in name_of.items()}
        photos = [number[name] for name in names]
        made = fingerprint(list(names))
        vocabulary, index = work / f"vocabulary-{made}.bin", work / f"index-{made}.bin"
        if not vocabulary.exists() and not make_vocabulary(features, photos, vocabulary):
            raise CollectionError(f"the {len(names)} photos of the database have too few features for visual words")
        if not index.exists():
            build_index(features, photos, vocabulary, index)
        search = rank_by_words(features, index, [number[query] for query in dict.fromkeys(queries)], len(name_of))
        started = time.monotonic()
        found = {name_of[query]: [name_of[photo] for photo in some] for query, some in search}
        return found, index.stat().st_size - vocabulary.stat().st_size, time.monotonic() - started


def _with_the_rest(ranked: list[int], rows: Mapping[str, int]) -> list[int]:
    """Returns a ranking of all rows: those without common words come last, in the order of the database."""
    return list(dict.fromkeys([*ranked, *rows.values()]))


def _verify(
    database: Database, truth: GroundTruth, queries: Sequence[str], ranked: list[list[int]], options: EvaluateOptions
) -> float:
    """Sorts the top of each ranking in place by the number of inlier matches; returns the seconds per query.

    The photos that are not verified keep their order. A query that is in the database stays first.
    """
    pairs = {
        (query, row): ordered(name, truth.database[row])
        for query, name in enumerate(queries)
        for row in ranked[query][: options.words_verified]
        if name != truth.database[row]
    }
    path = database.path.with_name(SECONDS)
    notes = read_json(path) if path.exists() else {"pairs": 0, "seconds": 0.0}
    started = time.monotonic()
    notes["pairs"] += database.match(sorted(set(pairs.values())), SEED)
    notes["seconds"] += time.monotonic() - started
    write_file(path, json.dumps(notes))
    inliers = database.inliers()
    for query, rows in enumerate(ranked):
        first = rows[: options.words_verified]
        agreed = {row: inliers[pairs[query, row]] if (query, row) in pairs else np.inf for row in first}
        rows[: options.words_verified] = sorted(agreed, key=lambda row: -agreed[row])
    return options.words_verified * notes["seconds"] / max(1, notes["pairs"])
