"""The search methods that bench.index compares. Each one builds an index and searches it with several settings."""

import os
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.made_descriptors import row_of
from pipelines.descriptors.folder import read_descriptors

K = 10
MILVUS = os.environ.get("BENCH_MILVUS")  # milvus://HOST:PORT of a Milvus server; if set, Milvus is compared, too
TUNED = "as tuned"  # name of the setting that `index` chose when it tuned the index to a recall

Search = Callable[[np.ndarray], np.ndarray]  # queries (B, D) -> row numbers (B, K)


class Method(NamedTuple):
    """A search method.

    Attributes:
        build: function that builds an index. Its arguments are a folder of descriptors and the path of the index, which
            does not exist yet.
        searches: function that opens the index and yields the name of each setting with a search function. Its
            arguments are the same as those of `build`. A search function is valid only until the next setting is
            requested.
        exact: whether the search is exact and needs no index.
        most: maximum number of rows for which the method is measured; larger indexes would take too long to build.
    """

    build: Callable[[Path, Path], None]
    searches: Callable[[Path, Path], Iterator[tuple[str, Search]]]
    exact: bool = False
    most: int = 10**9


def _rows(descriptors: Path) -> np.ndarray:
    return np.concatenate(read_descriptors(descriptors)[0])


def _nothing(descriptors: Path, place: Path) -> None:
    place.touch()


def _numpy(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    rows = _rows(descriptors)

    def search(queries: np.ndarray) -> np.ndarray:
        scores = queries @ rows.T
        first = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, first, 1), axis=1)
        return np.take_along_axis(first, order, 1)

    yield "exact", search


def _tensorflow(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    import tensorflow as tf

    rows = tf.convert_to_tensor(_rows(descriptors))

    @tf.function(input_signature=[tf.TensorSpec((None, rows.shape[1]))])
    def nearest(queries: Any) -> Any:
        return tf.math.top_k(tf.linalg.matmul(queries, rows, transpose_b=True), K).indices

    yield "exact", lambda queries: nearest(queries).numpy()


def _build_scann(descriptors: Path, place: Path) -> None:
    from export.indexes.index import index

    index(descriptors, str(place), k=K)


def _scann(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    """Opens our index and yields searches of it, first at the tuned setting and then at other settings."""
    search, how = opened(place)
    yield TUNED, search
    shares = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15) if how.get("leaves") else (0,)
    for share, reorder in product(shares, (15, 30, 60, 120, 240) if "reorder" in how else ()):
        how["leaves_to_search"], how["reorder"] = max(1, round(share * how["leaves"])), reorder
        yield f"{how['leaves_to_search']} of {how['leaves']} leaves, {reorder} reordered", search


def _build_milvus(descriptors: Path, place: Path) -> None:
    from export.indexes.index import index

    address = f"{MILVUS}/bench_{len(read_descriptors(descriptors)[1])}"
    index(descriptors, address, k=K, replace=True)
    place.write_text(address)


def _milvus(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    yield TUNED, opened(place.read_text())[0]


def opened(place: str | Path) -> tuple[Search, dict[str, Any]]:
    """Opens an index of ours; returns a search function and the dict of its settings, changes of which take effect."""
    from export.indexes.open_index import open_index

    opened = open_index(place)

    def search(queries: np.ndarray) -> np.ndarray:
        return np.array([[row_of(name) for name in hits.names] for hits in opened.search(queries, K)])

    return search, opened.facts["configuration"]


def _build_ivf(descriptors: Path, place: Path) -> None:
    import faiss

    rows = _rows(descriptors)
    leaves = 2 ** round(np.log2(4 * np.sqrt(len(rows))))
    index = faiss.index_factory(
        rows.shape[1], f"IVF{leaves},PQ{rows.shape[1] // 2}x4fs,RFlat", faiss.METRIC_INNER_PRODUCT
    )
    index.train(rows[np.random.default_rng(0).permutation(len(rows))[: 64 * leaves]])
    index.add(rows)
    faiss.write_index(index, str(place))


def _ivf(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    import faiss

    index: Any = faiss.read_index(str(place))
    lists = faiss.extract_index_ivf(index)
    for probes, factor in product((1, 2, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128), (2, 3, 5, 10, 20)):
        lists.nprobe, index.k_factor = probes, factor
        yield f"{probes} of {lists.nlist} lists, {factor * K} refined", lambda queries: index.search(queries, K)[1]


def _build_hnsw(descriptors: Path, place: Path) -> None:
    import faiss

    rows = _rows(descriptors)
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.add(rows)
    faiss.write_index(index, str(place))


def _hnsw(descriptors: Path, place: Path) -> Iterator[tuple[str, Search]]:
    import faiss

    index: Any = faiss.read_index(str(place))
    for effort in (10, 16, 24, 32, 48, 64, 96, 128, 256, 512):
        index.hnsw.efSearch = effort
        yield f"efSearch {effort}", lambda queries: index.search(queries, K)[1]


METHODS = {
    "numpy": Method(_nothing, _numpy, exact=True),
    "TensorFlow": Method(_nothing, _tensorflow, exact=True),
    "ScaNN (ours)": Method(_build_scann, _scann),
    "faiss IVF-PQ": Method(_build_ivf, _ivf),
    "faiss HNSW": Method(_build_hnsw, _hnsw, most=200_000),
}
if MILVUS:
    METHODS["Milvus"] = Method(_build_milvus, _milvus)
