"""Small ground truths and rankings for them."""

import json
import os

import numpy as np

from pipelines.evaluation.datasets import load_ground_truth


def make(folder, *names):
    """Empty files under the names of photos: a loader reads names only."""
    for parent in {name.rpartition("/")[0] for name in names}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for name in names:
        os.close(os.open(f"{folder}/{name}", os.O_CREAT))
    return folder


def named(ground_truth, label):
    """query -> names of the photos in a label."""
    rows = getattr(ground_truth, label)
    return {
        query: sorted(ground_truth.database[row] for row in one)
        for query, one in zip(ground_truth.queries, rows, strict=True)
    }


def ranks_of(ground_truth, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(len(ground_truth.database)) for _ in ground_truth.queries], axis=1)


def perfect_ranks(ground_truth, setting):
    positives, _ = ground_truth.settings()[setting]
    everything = np.arange(len(ground_truth.database))
    return np.stack([np.concatenate([one, np.setdiff1d(everything, one)]) for one in positives], axis=1)


def write_own(path, queries, **more):
    path.write_text(json.dumps({"queries": queries} | more))
    return path


def own_truth(shots, *queries, **more):
    return load_ground_truth(str(write_own(shots.parent / "mine.json", list(queries), **more)), shots)
