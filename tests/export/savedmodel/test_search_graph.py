"""A version that contains its index: network and ScaNN searcher in one graph, run with ScaNN's operations only."""

import os
import subprocess
import sys

import numpy as np
import pytest

from export.index_contract.index_settings import IndexSettings
from export.indexes.open_index import open_index
from export.savedmodel.export_saved_model import export_saved_model
from export.savedmodel.search_graph import search_function
from pipelines.files.durable import read_manifest
from tests.helpers import small
from tests.helpers.search_service import SCALES, SIZE, STREET

ALONE = """
import sys
sys.modules.update(keras=None, keras_retrieval=None)  # to import them is an error
sys.modules["jax"] = None  # which TensorFlow imports for nothing that is needed here
import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signature = tf.compat.v1.saved_model.loader.load(session, ["serve"], sys.argv[1]).signature_def["search"]
    photos = [open(path, "rb").read() for path in sys.argv[3:]]
    outputs = {name: output.name for name, output in signature.outputs.items()}
    defaults = {name: tf.make_ndarray(value).tolist() for name, value in signature.defaults.items()}
    assert defaults == {"k": 10, "leaves": 0}
    requests = [(photos, 4, 0), (photos, [1, 2, 3, 100], 1), (photos[1:2], 3, 0), ([], 3, 0)]
    for number, (batch, k, leaves) in enumerate(requests):
        feeds = {"image_bytes": np.array(batch, object), "k": k, "leaves": leaves}
        found = session.run(outputs, {signature.inputs[name].name: value for name, value in feeds.items()})
        names = found["names"]
        found["names"] = np.array([name.decode() for name in names.reshape(-1)], str).reshape(names.shape)
        np.savez(f"{sys.argv[2]}/{number}.npz", **found)
"""


@pytest.fixture(scope="module")
def version(search_service, tmp_path_factory):
    base, index = tmp_path_factory.mktemp("with index") / "small", str(search_service.index)
    return export_saved_model(str(search_service.network), base, size=SIZE, scales=SCALES, index=index)


def test_it_finds_what_the_index_finds(search_service, version, tmp_path):
    photos = [search_service.photos / name for name in ("004.png", "broken.png", STREET, "001.png")]
    photos[1] = tmp_path / "broken.png"
    photos[1].write_bytes(photos[0].read_bytes()[:200])
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", ALONE, version, tmp_path, *photos]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=300)
    few, many, broken, empty = (np.load(tmp_path / f"{number}.npz") for number in range(4))
    rows = search_service.rows[[search_service.names.index(name) for name in ("004.png", STREET, "001.png")]]
    expected = open_index(search_service.index).search(rows, 10)
    assert few["status"].tolist() == many["status"].tolist() == [0, 2, 0, 0]
    for answer, lengths in ((few, (4, 4, 4)), (many, (1, 3, 10))):
        assert answer["names"].shape == (4, max(lengths))
        for row, hits, length in zip((0, 2, 3), expected, lengths, strict=True):
            assert answer["names"][row].tolist() == hits.names[:length] + [""] * (max(lengths) - length)
            np.testing.assert_allclose(answer["scores"][row, :length], hits.scores[:length], atol=2e-4)
            assert (answer["scores"][row, length:] == -np.inf).all()
        assert not any(answer["names"][1])
    assert (broken["names"].shape, broken["status"].tolist()) == ((1, 0), [2])
    assert (empty["names"].shape, empty["status"].shape) == ((0, 0), (0,))


def test_it_says_what_it_needs(version):
    manifest = read_manifest(version, kind="served network", version=1)
    assert manifest["signatures"] == ["images", "images_uint8", "search", "serving_default"]
    assert (manifest["indexed_photos"], manifest["needs"]) == (10, "ScaNN's operations")
    assert "needs           ScaNN's operations" in (version / "README.txt").read_text()


def test_another_network_is_refused(search_service, tmp_path):
    other, index = small.saved_network(tmp_path, seed=1), str(search_service.index)
    with pytest.raises(ValueError, match=r"does not fit .*small\.keras: it is another network, its size is 48"):
        export_saved_model(str(other), tmp_path / "other", size=48, scales=SCALES, index=index)
    assert not (tmp_path / "other").exists()


class Tree:
    """An index with a tree of 40 leaves over clustered rows, and its own way to search."""

    def __init__(self, kept=16):
        how = {"kind": "tree", "leaves": 40, "leaves_to_search": 40, "reorder": 500, "k": 10}
        how["settings"] = IndexSettings().facts()
        self.facts = {"dimensions": 16, "configuration": how}
        chance = np.random.default_rng(0)
        centres = chance.normal(size=(40, 16))
        rows = centres[chance.integers(0, 40, 2000)] + 0.5 * chance.normal(size=(2000, 16))
        self.rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)[:, :kept]
        self.names = [f"{row}é" for row in range(len(self.rows))]

    def __len__(self):
        return len(self.names)

    def vectors(self):
        return self.rows


def described(image_bytes):
    """Reads descriptors that are sent as their bytes in memory."""
    import tensorflow as tf

    return tf.reshape(tf.io.decode_raw(image_bytes, tf.float32), [-1, 16]), tf.zeros(tf.shape(image_bytes), tf.int32)


def test_leaves_say_how_far_it_looks():
    import tensorflow as tf

    index = Tree()
    search = search_function(described, index, tf.Module())
    queries = index.rows[::100]
    photos = tf.constant([row.tobytes() for row in queries])

    def recall(leaves, k):
        found = search(photos, tf.constant(k), tf.constant(leaves))["names"].numpy()
        exact = np.argsort(-(queries @ index.rows.T), axis=1)[:, :k]
        pairs = zip(found, exact, strict=True)
        return np.mean(
            [len({name.decode() for name in row} & {index.names[i] for i in best}) / k for row, best in pairs]
        )

    own, one = recall(0, 10), recall(1, 10)
    assert own >= 0.99
    assert one < own
    assert recall(40, 10) == recall(1000, 10) == own
    assert recall(0, 100) >= 0.95  # it looks further for more
    deep = search(photos, tf.constant(500), tf.constant(1))
    lengths = np.isfinite(deep["scores"].numpy()).sum(axis=1)
    assert lengths.max() == deep["names"].shape[1] < 500  # a leaf holds fewer: none is invented
    for row, length in zip(deep["names"].numpy(), lengths, strict=True):
        assert all(row[:length])
        assert len(set(row[:length])) == length
        assert not any(row[length:])


def test_shortened_descriptors_are_refused():
    import tensorflow as tf

    with pytest.raises(ValueError, match=r"of all 16 dimensions: this index stores 2,000 of 8"):
        search_function(described, Tree(kept=8), tf.Module())
