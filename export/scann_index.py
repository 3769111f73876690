"""Descriptors to a ScaNN index: `keras-retrieval index DESCRIPTORS INDEX`.

ScaNN ends the process on a NaN, crashes on files of another length and pads short results; none of that can
happen behind this module, which checks what goes in, every file's checksum at load, and what comes out.
"""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.descriptors import read_descriptors
from keras_retrieval.pipelines.folders import (
    FolderError,
    check_free,
    partial_of,
    read_manifest,
    read_names,
    seal,
    write_array,
    write_names,
)

from keras_retrieval.reranking import nearest

from .neighbour_index import Filter, Hits

KIND, VERSION = "ScaNN index", 1
BRUTE_FORCE_BELOW = 20_000  # where an exact search is as fast as an approximate one
REORDER = 10  # how many times k candidates are scored exactly
SHARE_OF_LEAVES = 0.1  # of a tree's leaves that a query looks into


def index(
    descriptors: Annotated[Path, typer.Argument(help="Folder of descriptors, from `keras-retrieval extract`.")],
    output: Annotated[Path, typer.Argument(help="Index folder to write.")],
    *,
    neighbours: Annotated[int, typer.Option(help="Neighbours that a search usually asks for.")] = 10,
    exact: Annotated[bool, typer.Option(help="Search exactly at any size.")] = False,
    replace: Annotated[bool, typer.Option(help="Replace OUTPUT if it is there.")] = False,
) -> Path:
    """Builds an index over descriptors: exact under 20,000 photos, else a tree with asymmetric hashing and reordering.

    OUTPUT holds ScaNN's files, names.txt (one JSON string a line) and manifest.json with every file's checksum.
    """
    if neighbours < 1:
        raise ValueError(f"--neighbours is at least 1, not {neighbours}")
    check_free(output, kind=KIND, replace=replace)
    shards, names, manifest = read_descriptors(descriptors)
    rows = checked_rows(np.concatenate(shards))
    scann = _scann()
    started = time.monotonic()
    searcher, configuration = _build(scann, rows, neighbours, exact)
    seconds = time.monotonic() - started
    partial = partial_of(output)
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "scann").mkdir(parents=True)
    searcher.serialize(str(partial / "scann"), relative_path=True)
    write_names(partial / "names.txt", names)
    write_array(partial / "rows.npy", rows)
    kept = ("model", "photos", "size", "scales", "antialias", "bfloat16", "exif", "max_pixels", "fingerprint")
    facts = {key: manifest[key] for key in kept} | {"count": len(names), "dimensions": rows.shape[1]}
    facts["descriptors"] = str(descriptors.resolve())
    seal(partial, output, kind=KIND, version=VERSION, replace=replace, configuration=configuration, **facts)
    print(f"{output}: {len(names):,} photos, {configuration['kind']} search, built in {seconds:.1f} s")
    return output


def checked_rows(rows: np.ndarray) -> np.ndarray:
    """Descriptors as ScaNN takes them, C-contiguous float32.

    Raises:
        ValueError: not (N, D) with N, D >= 1, or rows that are not finite; the message names the first rows.
    """
    rows = np.ascontiguousarray(rows, "float32")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"descriptors are an array (N, D) with at least one row and one column, not {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} descriptors are not finite, the first in rows {bad[:5].tolist()}")
    return rows


class ScannIndex:
    """An index folder that was loaded and checked, a `NeighbourIndex`.

    Args:
        folder: what `index` wrote.

    Raises:
        FolderError: the folder is no index, of a newer layout, or one of its files is missing or has changed.
    """

    def __init__(self, folder: Path) -> None:
        self.facts = read_manifest(folder, kind=KIND, version=VERSION, verify=True)
        self.names = read_names(folder / "names.txt")
        if len(self.names) != self.facts["count"]:
            raise FolderError(f"{folder} holds {len(self.names):,} names for {self.facts['count']:,} rows")
        self._searcher = _scann().load_searcher(str(folder / "scann"))
        self._rows = np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self.names)

    def search(
        self, queries: np.ndarray, k: int = 10, *, exact: bool = False, where: Filter | None = None
    ) -> list[Hits]:
        """See `NeighbourIndex.search`."""
        if k < 1:
            raise ValueError(f"k is at least 1, not {k}")
        if where is not None:
            raise ValueError("this version searches without filters")
        queries = checked_rows(queries)
        if queries.shape[1] != self.facts["dimensions"]:
            raise ValueError(f"queries have {queries.shape[1]} dimensions, the index {self.facts['dimensions']}")
        k = min(k, len(self))
        if exact or self.facts["configuration"]["kind"] == "exact":
            rows, scores = nearest(queries, self._rows, k)
        else:
            reorder = min(max(REORDER * k, 100), len(self))
            rows, scores = self._searcher.search_batched(
                queries, final_num_neighbors=k, pre_reorder_num_neighbors=reorder
            )
        # A tree may find fewer than k; ScaNN fills such a row up with id 0 and a score of NaN.
        found = [np.isfinite(row) for row in scores]
        short = [number for number, keep in enumerate(found) if not keep.all()]
        hits = [Hits([self.names[i] for i in row], score) for row, score in zip(rows, scores, strict=True)]
        for number, hit in zip(short, self.search(queries[short], k, exact=True) if short else [], strict=True):
            hits[number] = hit
        return hits

    def add(self, names: Sequence[str], rows: np.ndarray, columns: Mapping[str, Sequence[str]] | None = None) -> None:
        """See `NeighbourIndex.add`."""
        raise OSError("this version's folders do not change: index again")

    def delete(self, names: Sequence[str]) -> int:
        """See `NeighbourIndex.delete`."""
        raise OSError("this version's folders do not change: index again")

    def vectors(self, names: Sequence[str] | None = None) -> np.ndarray:
        """See `NeighbourIndex.vectors`."""
        if names is None:
            return self._rows
        row_of = {name: row for row, name in enumerate(self.names)}
        unknown = [name for name in names if name not in row_of]
        if unknown:
            raise ValueError(f"the index has no photo {unknown[0]!r}")
        return self._rows[[row_of[name] for name in names]]

    def close(self) -> None:
        """See `NeighbourIndex.close`."""


def _build(scann: Any, rows: np.ndarray, neighbours: int, exact: bool) -> tuple[Any, dict[str, Any]]:
    """A searcher over the rows and what it is made of."""
    count = len(rows)
    builder = scann.builder(rows, neighbours, "dot_product")
    if exact or count < BRUTE_FORCE_BELOW:
        return builder.score_brute_force().build(), {"kind": "exact"}
    leaves = round(math.sqrt(count))
    configuration = {
        "kind": "tree + asymmetric hashing + reordering",
        "leaves": leaves,
        "leaves_to_search": max(1, round(SHARE_OF_LEAVES * leaves)),
        "reorder": max(REORDER * neighbours, 100),
    }
    builder = builder.tree(
        num_leaves=leaves,
        num_leaves_to_search=configuration["leaves_to_search"],
        training_sample_size=min(count, 250_000),
    )
    builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(configuration["reorder"])
    return builder.build(), configuration


def _scann() -> Any:
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ImportError(f'ScaNN is not installed ({error}): pip install "keras-retrieval[index]"') from error
    return scann_ops_pybind
