"""Matches pairs of photos in rounds, where the verified pairs of one round determine the candidate pairs of the next.

The first round pairs each photo with the photos whose descriptors are nearest. The following rounds pair photos that
have verified neighbours in common, until no such pair is left. Then visual words propose pairs between groups of photos
that no chain of verified pairs connects, and further rounds of common neighbours follow.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.components import connected
from ..files.durable import fingerprint, read_json, sha256_of, write_file
from .candidate_pairs import all_pairs, bridged_pairs, nearest_pairs, vocabulary_pairs
from .colmap import Database, Pair
from .descriptors import descriptor_settings
from .near_photos import Nearness
from .options import ReconstructOptions

NOTES = "pairs.json"
BRIDGES_PER_PHOTO = 10  # photos with common verified neighbours with which each photo is paired in one round
WORDS_PER_PHOTO = 5  # photos of other groups with which visual words pair each photo
MOST_ROUNDS = 20

log = logging.getLogger("keras_retrieval")


def match_in_rounds(
    database: Database,
    names: Sequence[str],
    options: ReconstructOptions,
    rows: Callable[[], np.ndarray],
    nearness: Nearness | None = None,
    match: Callable[[Sequence[Pair]], Any] | None = None,
) -> list[dict[str, Any]]:
    """Matches pairs of photos in rounds, until no method proposes a new pair.

    The proposed pairs are stored in pairs.json beside the database, so that an interrupted run continues with the same
    pairs. If photos were added to a finished run, only pairs with at least one new photo are matched.

    Args:
        database: the COLMAP database with the features of all photos.
        names: the names of the n photos.
        options: the options of the reconstruction, which determine how pairs are chosen and verified.
        rows: a function that returns the descriptors of the photos, (n, D). It is called only if a round chooses pairs
            by descriptors.
        nearness: the positions of the photos and the distance within which photos are paired; None for no restriction.
        match: matches and verifies pairs that were not tried yet; None for `database.match`.

    Returns:
        One dict per round, with the entries "by", the method that proposed the pairs ("descriptors", "visual words",
        "exhaustive" or "neighbours"); "pairs", the number of proposed pairs; and "verified", the number of verified
        pairs among them.
    """
    path, match = database.path.with_name(NOTES), match or (lambda pairs: database.match(pairs, options.seed))
    notes = _begin(path, names, options)
    rounds: list[dict[str, Any]] = notes["rounds"]
    settled = set(notes["settled"])
    new = [name for name in names if name not in settled]
    while True:
        if rounds:
            match([(one, other) for one, other in rounds[-1]["pairs"]])
        by = None if notes["done"] else _next(rounds, options.pairs)
        if by is None:
            break
        pairs = _propose(by, database, names, new, options, rows, first=not rounds, nearness=nearness)
        log.info("round %d: %s pairs by %s", len(rounds) + 1, f"{len(pairs):,}", by)
        rounds.append({"by": by, "pairs": pairs})
        write_file(path, json.dumps(notes, ensure_ascii=False))
    if not notes["done"]:
        write_file(path, json.dumps(notes | {"done": True}, ensure_ascii=False))
    return _counts(rounds, database, options.min_inliers)


def match_brought(
    database: Database, pairs: Sequence[Pair], options: ReconstructOptions, nearness: Nearness | None = None
) -> list[dict[str, Any]]:
    """Verifies the pairs of a database that the user brings.

    Args:
        database: the COLMAP database of the run.
        pairs: the pairs of usable photos with matches.
        options: the options of the reconstruction.
        nearness: the positions of the photos and the distance within which photos are paired; None for no restriction.

    Returns:
        One round, as `match_in_rounds` returns several; its "by" is "database".
    """
    near = list(pairs) if nearness is None else nearness.keep(pairs)
    database.match(near, options.seed)
    return _counts([{"by": "database", "pairs": near}], database, options.min_inliers)


def _fingerprint(options: ReconstructOptions) -> str:
    """Computes a hash of the options on which the choice of pairs depends."""
    settings = descriptor_settings(options.model, options.descriptor_size)
    facts = [options.pairs, options.neighbours, options.min_inliers, _content(options.vocabulary), settings]
    return fingerprint(*facts, *([options.near, _content(options.positions)] if options.near else []))


def _content(path: Any) -> str:
    """What a file contains, so that another file at the same path is noticed; the text itself if it names no file."""
    return sha256_of(Path(path)) if path is not None and Path(path).is_file() else str(path)


def _begin(path: Path, names: Sequence[str], options: ReconstructOptions) -> dict[str, Any]:
    """Returns the content of pairs.json if it belongs to a run with the same photos and options, or a new content.

    In a new content, the photos of an earlier finished run are listed as "settled", so that pairs among them are not
    proposed again.
    """
    how = _fingerprint(options)
    fresh = {"how": how, "names": list(names), "settled": [], "rounds": [], "done": False}
    if not path.exists():
        return fresh
    notes = read_json(path)
    if notes["how"] != how:
        return fresh
    if notes["names"] == fresh["names"]:
        return notes
    return fresh | {"settled": notes["names"] if notes["done"] else notes["settled"]}


def _next(rounds: Sequence[dict[str, Any]], by: str) -> str | None:
    """Returns the method that proposes the pairs of the next round, or None after the last round."""
    if not rounds:
        return {"retrieval": "descriptors", "vocabulary-tree": "visual words"}.get(by, by)
    last = rounds[-1]
    if by == "exhaustive" or len(rounds) == MOST_ROUNDS:
        return None
    if last["by"] != "neighbours" or last["pairs"]:
        return "neighbours"
    return None if any(entry["by"] == "visual words" for entry in rounds) else "visual words"


def _propose(
    by: str,
    database: Database,
    names: Sequence[str],
    new: Sequence[str],
    options: ReconstructOptions,
    rows: Callable[[], np.ndarray],
    first: bool,
    nearness: Nearness | None,
) -> list[Pair]:
    """Returns the pairs of a round, which have not been tried yet and contain at least one new photo each."""
    present, fresh = set(names), set(new)
    inliers = {pair: count for pair, count in database.inliers().items() if present.issuperset(pair)}
    if not new:
        return []
    if by == "neighbours":
        bridged = bridged_pairs(inliers, BRIDGES_PER_PHOTO, options.min_inliers, fresh)
        return bridged if nearness is None else nearness.keep(bridged)
    if by == "exhaustive":
        pairs = all_pairs(names)
    elif by == "descriptors":
        pairs = nearest_pairs(names, rows(), options.neighbours, nearness)
    elif first:
        pairs = vocabulary_pairs(database.path, new, options.neighbours, options.vocabulary)
    else:
        pairs = _links(database.path, names, new, inliers, options)
    pairs = [pair for pair in pairs if pair not in inliers and not fresh.isdisjoint(pair) and present.issuperset(pair)]
    return pairs if nearness is None else nearness.keep(pairs)


def _links(
    database: Path,
    names: Sequence[str],
    new: Sequence[str],
    inliers: Mapping[Pair, int],
    options: ReconstructOptions,
) -> list[Pair]:
    """Returns pairs of photos with common visual words that no chain of verified pairs connects."""
    verified = [pair for pair, count in inliers.items() if count >= options.min_inliers]
    groups = connected(names, verified)
    if len(groups) < 2:
        return []
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    pairs = vocabulary_pairs(database, new, WORDS_PER_PHOTO, options.vocabulary)
    return [pair for pair in pairs if group_of.get(pair[0]) != group_of.get(pair[1])]


def _counts(rounds: Sequence[dict[str, Any]], database: Database, least: int) -> list[dict[str, Any]]:
    inliers = database.inliers()
    return [
        {
            "by": entry["by"],
            "pairs": len(entry["pairs"]),
            "verified": sum(inliers.get((one, other), 0) >= least for one, other in entry["pairs"]),
        }
        for entry in rounds
    ]
