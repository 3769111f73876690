"""Which pairs are matched, round by round: what is verified in one round decides what the next one tries.

Photos first choose their neighbours by descriptor; then verified neighbours recommend theirs, until nobody has
anyone to recommend; then visual words look for links between groups of photos that nothing links yet, and
neighbours recommend again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.components import connected
from ..files.durable import fingerprint, read_json, write_file
from .candidate_pairs import all_pairs, bridged_pairs, nearest_pairs, vocabulary_pairs
from .colmap import Database, Pair

NOTES = "pairs.json"
PAIRS = ("retrieval", "vocabulary-tree", "exhaustive")
BRIDGES_PER_PHOTO = 10  # photos that neighbours may recommend to each photo in one round
WORDS_PER_PHOTO = 5  # photos of other groups that visual words may propose to each photo
MOST_ROUNDS = 20


@dataclass(frozen=True)
class Pairing:
    """How candidate pairs are chosen.

    Attributes:
        by: one of `PAIRS`.
        neighbours: how many photos each photo chooses at first.
        min_inliers: the matches a pair needs to count as verified.
        vocabulary: COLMAP's vocabulary tree, or None for one of the photos' own.
        described_as: what tells one kind of descriptors from another.
        seed: of the verification.
    """

    by: str
    neighbours: int
    min_inliers: int
    vocabulary: Path | None
    described_as: Any
    seed: int

    def fingerprint(self) -> str:
        """Changes when other pairs would be chosen."""
        return fingerprint(self.by, self.neighbours, self.min_inliers, str(self.vocabulary), self.described_as)


def match_in_rounds(
    database: Database, names: Sequence[str], pairing: Pairing, rows: Callable[[], np.ndarray]
) -> list[dict[str, Any]]:
    """Matches pairs until no round proposes any.

    What was proposed is kept in pairs.json beside the database, so that a killed run goes on with the same pairs.
    Photos that were there when an earlier run ended are not paired with each other again.

    Args:
        database: with the features of all photos.
        names: the photos.
        pairing: how to choose.
        rows: makes the descriptors (len(names), D) when they are needed.

    Returns:
        For each round of this run what proposed it (`by`), how many pairs (`pairs`) and how many were `verified`.
    """
    path = database.path.with_name(NOTES)
    notes = _begin(path, names, pairing)
    rounds: list[dict[str, Any]] = notes["rounds"]
    settled = set(notes["settled"])
    new = [name for name in names if name not in settled]
    while True:
        if rounds:
            database.match([(one, other) for one, other in rounds[-1]["pairs"]], pairing.seed)
        by = None if notes["done"] else _next(rounds, pairing.by)
        if by is None:
            break
        pairs = _propose(by, database, names, new, pairing, rows, first=not rounds)
        print(f"round {len(rounds) + 1}: {len(pairs):,} pairs by {by}", flush=True)
        rounds.append({"by": by, "pairs": pairs})
        write_file(path, json.dumps(notes, ensure_ascii=False))
    if not notes["done"]:
        write_file(path, json.dumps(notes | {"done": True}, ensure_ascii=False))
    return _counts(rounds, database, pairing)


def _begin(path: Path, names: Sequence[str], pairing: Pairing) -> dict[str, Any]:
    """The notes of a run with the same photos, or new ones that know which photos are settled."""
    how = pairing.fingerprint()
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
    """What proposes the next round; None when all is done."""
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
    pairing: Pairing,
    rows: Callable[[], np.ndarray],
    first: bool,
) -> list[Pair]:
    """The pairs of a round: untried ones, each with at least one new photo."""
    known, fresh = set(names), set(new)
    inliers = {pair: count for pair, count in database.inliers().items() if known.issuperset(pair)}
    if not new:
        return []
    if by == "neighbours":
        return bridged_pairs(inliers, BRIDGES_PER_PHOTO, pairing.min_inliers, fresh)
    if by == "exhaustive":
        pairs = all_pairs(names)
    elif by == "descriptors":
        pairs = nearest_pairs(names, rows(), pairing.neighbours)
    elif first:
        pairs = vocabulary_pairs(database.path, new, pairing.neighbours, pairing.vocabulary)
    else:
        pairs = _links(database.path, names, new, inliers, pairing)
    return [pair for pair in pairs if pair not in inliers and not fresh.isdisjoint(pair) and known.issuperset(pair)]


def _links(
    database: Path, names: Sequence[str], new: Sequence[str], inliers: Mapping[Pair, int], pairing: Pairing
) -> list[Pair]:
    """Pairs by visual words between photos that no chain of verified pairs connects."""
    verified = [pair for pair, count in inliers.items() if count >= pairing.min_inliers]
    groups = connected(names, verified)
    if len(groups) < 2:
        return []
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    pairs = vocabulary_pairs(database, new, WORDS_PER_PHOTO, pairing.vocabulary)
    return [pair for pair in pairs if group_of.get(pair[0]) != group_of.get(pair[1])]


def _counts(rounds: Sequence[dict[str, Any]], database: Database, pairing: Pairing) -> list[dict[str, Any]]:
    inliers = database.inliers()
    return [
        {
            "by": entry["by"],
            "pairs": len(entry["pairs"]),
            "verified": sum(inliers.get((one, other), 0) >= pairing.min_inliers for one, other in entry["pairs"]),
        }
        for entry in rounds
    ]
