"""Descriptors of a few random rows, indexes of them, and their neighbours by naive numpy."""

import numpy as np
from keras_retrieval.pipelines.descriptors import folder as described
from keras_retrieval.pipelines.files.durable import partial_of, seal, write_array, write_file, write_names

from export.indexes.index import index

FACTS = {"model": {"name": "small"}, "photos": "/photos", "size": 64, "scales": [1.0]}
FACTS |= {"antialias": True, "bfloat16": False, "exif": True, "max_pixels": 10**6, "fingerprint": "0"}
HASHED = {"leaves": 0}
TREE = {"leaves": 20}


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")


def random_rows(count, dimensions=8, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, dimensions)))


def clustered_rows(count, dimensions=32, clusters=40, seed=0):
    """Rows around centres that are the same for all seeds."""
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(clusters, dimensions))
    return unit(centres[chance.integers(0, clusters, count)] + 0.5 * chance.normal(size=(count, dimensions)))


def descriptors(folder, rows, names=None):
    """A folder as `extract` writes it, with two shards."""
    partial = partial_of(folder)
    partial.mkdir(parents=True)
    for number, shard in enumerate(np.array_split(rows, min(2, max(1, len(rows))))):
        write_array(partial / f"descriptors-{number:05}.npy", shard)
    write_names(partial / "names.txt", names or names_of(len(rows)))
    write_file(partial / "left_out.json", "{}")
    return seal(partial, folder, kind=described.KIND, version=described.VERSION, count=len(rows), **FACTS)


def names_of(count, first=0):
    return [f"{row}.jpg" for row in range(first, first + count)]


def indexed(folder, vectors, names=None, **options):
    return index(descriptors(folder / "descriptors", vectors, names), folder / "index", **options)


def nearest(rows, queries, k):
    """Row numbers of the k nearest, by sorting all products."""
    return np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :k]


def numbers(hits):
    """The row numbers in names like 7.jpg, for each query."""
    return [[int(name.removesuffix(".jpg")) for name in one.names] for one in hits]


def recall(hits, rows, queries, k):
    """The share of the k nearest rows that were found, from names like 7.jpg."""
    pairs = zip(numbers(hits), nearest(rows, queries, k).tolist(), strict=True)
    return np.mean([len({*found} & {*expected}) / k for found, expected in pairs])
