"""Scores a network on the photos that are set aside for validation, before and after training.

The queries are photos of objects that were not trained on, and are searched for among all photos of the tuples. The
network after training ends with a whitening; the one that is scored is learned without the validation photos.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval import metrics
from keras_retrieval.ranking.methods import Ranker
from keras_retrieval.ranking.rows import gather
from keras_retrieval.whitening.covariance import Projection

from ..descriptors.folder import read_descriptors
from ..descriptors.matching_pairs import MatchingPairs
from ..files.durable import fingerprint, read_json, write_file
from ..files.progress import progress
from ..networks.files import model_identity
from ..training_tuples.data import Tuples, objects, validation_mask
from .run import Run
from .whitening import WhiteningPhotos, describe_for_whitening

MOST_QUERIES = 1_000
MOST_PHOTOS = 10_000

_BEFORE = "validation.json"


@dataclass(frozen=True)
class ValidationScore:
    """The mean average precision over photos that are set aside.

    Attributes:
        mean_ap: the mAP, from 0 to 1.
        queries: number of queries.
        photos: number of photos among which each query is searched for.
        objects: number of objects that the queries show.
    """

    mean_ap: float
    queries: int
    photos: int
    objects: int


def validation_score(
    folder: Path, tuples: Tuples, seed: int = 0, whitening: Projection | None = None, dim: int | None = None
) -> ValidationScore | None:
    """Computes the mAP of exact search for the photos that are set aside, among all photos of the tuples.

    The relevant photos of a query are the others of its cluster or, if the tuples list negatives, its positives. Photos
    that may show the same object are ignored. At most 1,000 queries and 10,000 photos are drawn.

    Args:
        folder: folder of the photos' descriptors.
        tuples: the tuples with their validation split.
        seed: random seed of the draw.
        whitening: a whitening that is applied to the descriptors; None for no whitening.
        dim: number of dimensions that the whitening keeps; None for all.

    Returns:
        The score; None if no photo that is set aside has a relevant photo.
    """
    shards, names, _ = read_descriptors(folder)
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.array([row_of.get(name, -1) for name in tuples.images], np.int64)
    rng = np.random.default_rng(seed)
    database = draw_photos(tuples, np.flatnonzero(rows >= 0), rng)
    descriptors = gather(shards, rows[database])
    if whitening is not None:
        descriptors = whitening.apply(descriptors, dim)
    return score_rows(tuples, database, descriptors, rng)


def score_rows(
    tuples: Tuples, database: np.ndarray, descriptors: np.ndarray, rng: np.random.Generator
) -> ValidationScore | None:
    """Computes the mAP of exact search for the photos that are set aside, among photos with given descriptors.

    Args:
        tuples: the tuples with their validation split.
        database: (n,) indexes of the photos in `tuples.images`, such as `draw_photos` returns them.
        descriptors: their descriptors, (n, D), L2-normalised.
        rng: random generator of the draw of at most 1,000 queries.

    Returns:
        The score; None if no photo that is set aside has a relevant photo.
    """
    positives, junk = _labels(tuples, database)
    queries = [number for number in np.flatnonzero(validation_mask(tuples)[database]) if len(positives[number])]
    queries = sorted(rng.permutation(queries)[:MOST_QUERIES].tolist())
    if not queries:
        return None
    ranked, _ = Ranker([descriptors], [], progress).rank(descriptors[queries], len(database))
    scores = metrics.retrieval(
        np.array(ranked).T, [positives[number] for number in queries], [junk[number] for number in queries]
    )
    found = len(np.unique(objects(tuples)[database[queries]]))
    return ValidationScore(float(scores.mean_ap), len(queries), len(database), found)


def score_before(run: Run) -> ValidationScore | None:
    """Scores the network before training, and stores the score in the folder of the run for a resumed run.

    Returns:
        The score; None without the option `score_validation` or without photos that are set aside.
    """
    options = run.options
    if not options.score_validation or not validation_mask(run.tuples).any():
        return None
    path = run.output / _BEFORE
    made_from = fingerprint(
        model_identity(run.pretrained), options.fingerprint(), options.test_size, options.scales, options.mirror
    )
    if path.exists() and (kept := read_json(path))["made_from"] == made_from:
        return None if kept["score"] is None else ValidationScore(**kept["score"])
    photos = describe_for_whitening(run.pretrained, run.tuples, options, run.output / "descriptors")
    score = validation_score(photos.folder, run.tuples, options.seed)
    write_file(path, json.dumps({"made_from": made_from, "score": None if score is None else vars(score)}) + "\n")
    return score


def score_after(run: Run) -> ValidationScore | None:
    """Scores the trained network with a whitening that is learned without the validation photos.

    `comparison.finish` must have been called, which writes trained.keras and its descriptors.

    Returns:
        The score; None without the option `score_validation` or without photos that are set aside.
    """
    options, tuples = run.options, run.tuples
    if not options.score_validation or not validation_mask(tuples).any():
        return None
    folder = run.output / "descriptors"
    if options.whiten == "none":
        describe_for_whitening(str(run.output / "trained.keras"), tuples, options, folder)
        return validation_score(folder, tuples, options.seed)
    pairs = ~validation_mask(tuples)[tuples.qidxs]
    matching = MatchingPairs(tuples.images, tuples.qidxs[pairs], tuples.pidxs[pairs])
    whitening = WhiteningPhotos(folder, matching).learn(options.whiten, options)
    return validation_score(folder, tuples, options.seed, whitening, options.dim)


def comparison_of(before: ValidationScore | None, after: ValidationScore | None) -> dict[str, Any] | None:
    """Returns both scores as the entry "validation_scores" of results.json; None if one is missing.

    Returns:
        A dict with "measure" ("mAP"), "before" and "after" (from 0 to 1), and the numbers of "queries", "photos" and
        "objects".
    """
    if before is None or after is None:
        return None
    return {
        "measure": "mAP", "before": before.mean_ap, "after": after.mean_ap, "queries": after.queries,
        "photos": after.photos, "objects": after.objects,
    }  # fmt: skip


def comparison_text(scores: Mapping[str, Any]) -> str:
    """Returns the entry "validation_scores" of results.json as a line of text."""
    return (
        f"mAP {100 * scores['before']:.1f} before and {100 * scores['after']:.1f} after training, over "
        f"{scores['queries']:,} photos of {scores['objects']:,} objects that were not trained on"
    )


def draw_photos(tuples: Tuples, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draws at most 10,000 of the tuples' photos, all that are set aside first of all.

    Args:
        tuples: the tuples with their validation split.
        rows: (n,) indexes of the photos in `tuples.images` from which is drawn.
        rng: random generator of the draw.

    Returns:
        The indexes in ascending order.
    """
    aside = validation_mask(tuples)
    others = rng.permutation(rows[~aside[rows]])
    return np.sort(np.concatenate([rng.permutation(rows[aside[rows]]), others])[:MOST_PHOTOS])


def _labels(tuples: Tuples, database: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the relevant and the ignored photos of each photo, as indexes into `database`."""
    cluster, shown = tuples.cluster[database], objects(tuples)[database]
    aside = validation_mask(tuples)[database]
    place = np.full(len(tuples.images), -1)
    place[database] = np.arange(len(database))
    positives: list[np.ndarray] = []
    junk: list[np.ndarray] = []
    for number, row in enumerate(database):
        if not aside[number]:
            positives.append(place[:0])
            junk.append(place[:0])
            continue
        if tuples.negatives is None:
            relevant = np.flatnonzero(cluster == cluster[number])
        else:
            relevant = place[tuples.pidxs[tuples.qidxs == row]]
            relevant = relevant[relevant >= 0]
        positives.append(relevant[relevant != number])
        same = np.flatnonzero(shown == shown[number])
        junk.append(np.setdiff1d(np.append(same, number), positives[-1]))
    return positives, junk
