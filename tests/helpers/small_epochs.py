"""Photos of nine scenes, tuples of them, and an EpochDraw with a stand-in for the network."""

import numpy as np

from pipelines.photos.reading import Reading
from pipelines.training.epoch_draw import EpochDraw
from pipelines.training.mining_options import MiningOptions
from pipelines.training.stream import TupleStream
from pipelines.training.tuple_reader import PhotoOptions
from pipelines.training_tuples.data import Tuples
from tests.helpers.small_network import draw_photo

SIDE = 56
CLUSTERS, VIEWS = 9, 4
SHAPES = ((40, 56), (55, 35), (40, 42), (30, 56))


def draw_scenes(folder):
    """Four photos each of nine scenes, in four shapes."""
    for scene in range(CLUSTERS):
        for view, (height, width) in enumerate(SHAPES):
            draw_photo(folder / f"{scene}/{view}.png", scene, view, height, width)
    return folder


def damage(folder, target):
    """The same photos, but for an empty one and one whose pixels are cut off behind a good header."""
    for name in make_tuples().images:
        (target / name).parent.mkdir(exist_ok=True)
        content = (folder / name).read_bytes()
        (target / name).write_bytes({"3/0.png": b"", "4/1.png": content[: len(content) // 2]}.get(name, content))
    return target


def make_tuples(**changes):
    """Every photo asks for every other of its cluster; clusters 0, 1 and 1, 2 are linked; two are for validation."""
    cluster = np.repeat(np.arange(CLUSTERS), VIEWS)
    pairs = [(q, p) for q in range(len(cluster)) for p in range(len(cluster)) if q != p and cluster[q] == cluster[p]]
    qidxs, pidxs = np.array(pairs).T
    fields = {
        "images": [f"{row // VIEWS}/{row % VIEWS}.png" for row in range(len(cluster))],
        "cluster": cluster,
        "qidxs": qidxs,
        "pidxs": pidxs,
        "same_object": np.array([[0, 1], [2, 1]]),
        "validation": cluster >= CLUSTERS - 2,
    }
    return Tuples(**(fields | changes))


def make_draw(folder, tuples=None, validation=False, **options):
    """An EpochDraw of the photos in a folder; the options are those of mining."""
    mining = MiningOptions(**({"negatives": 3, "queries": 40, "pool": 100, "batch": 5} | options))
    return EpochDraw(tuples or make_tuples(), Reading(folder, SIDE), mining, validation=validation)


def stream_of(draw, **options):
    """A TupleStream; the options are those of photos."""
    return TupleStream(draw, PhotoOptions(**({"side": SIDE} | options)))


def steps_of(stream, start=0):
    """All steps of the epoch as numpy arrays."""
    return [
        ({name: array.numpy() for name, array in inputs.items()}, objects.numpy())
        for inputs, objects in stream.dataset(start)
    ]


def describing(seed=0):
    """Stands in for a network: a random projection of the mean and the corners of a photo."""
    projection = np.random.default_rng(seed).normal(size=(15, 12))

    def describe(images):
        x = images.astype(float)
        corners = [x.mean((1, 2)), x[:, 0, 0], x[:, 0, -1], x[:, -1, 0], x[:, -1, -1]]
        rows = (np.concatenate(corners, axis=1) - 128) @ projection
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("float32")

    return describe
