"""Descriptors to an index: `keras-retrieval index DESCRIPTORS INDEX --recall 0.95 --k 10`."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from keras_retrieval.pipelines.descriptors.folder import read_descriptors
from keras_retrieval.pipelines.files.durable import MANIFEST, check_free, partial_of

from keras_retrieval.ranking.nearest import CHUNK
from keras_retrieval.ranking.rows import blocks

from ..folder_index.builder import build_segment, start_log
from ..folder_index.dimension_reduction import learn_projection
from ..folder_index.layout import KIND, current_segment, locked, new_segment, publish, remove_other_segments
from ..index_contract.checks import check_names, check_rows
from ..index_contract.photos import MADE_WITH, PhotosToIndex, Rows, read_table
from ..index_contract.tuning import Hashing, IndexSettings
from ..milvus_index.address import is_milvus


def index(
    descriptors: Annotated[Path, typer.Argument(help="Folder of descriptors, from `keras-retrieval extract`.")],
    output: Annotated[
        str, typer.Argument(help="Index folder to write, or milvus://HOST:19530/COLLECTION (extra `milvus`).")
    ],
    *,
    recall: Annotated[
        float, typer.Option(help="Share of the true neighbours to find, measured on held queries.")
    ] = 0.95,
    k: Annotated[int, typer.Option("--k", "-k", help="Neighbours that a search usually asks for.")] = 10,
    columns: Annotated[
        Path | None, typer.Option(help="CSV or JSON lines with a column `photo` and others to filter searches by.")
    ] = None,
    rows: Annotated[
        Literal["float32", "bfloat16", "int8"], typer.Option(help="How descriptors are kept: 4, 2 or 1 byte a number.")
    ] = "float32",
    dim: Annotated[int | None, typer.Option(help="Shorten descriptors to so many dimensions by PCA.")] = None,
    exact: Annotated[bool, typer.Option(help="Search exactly at any size.")] = False,
    leaves: Annotated[int | None, typer.Option(help="Leaves of ScaNN's tree; 0 for none. By the size.")] = None,
    leaves_to_search: Annotated[int | None, typer.Option(help="Of them. Measured.")] = None,
    reorder: Annotated[int | None, typer.Option(help="Candidates scored by their descriptors. Measured.")] = None,
    threshold: Annotated[float, typer.Option(help="Anisotropic quantization's threshold; 0 for none.")] = 0.2,
    block: Annotated[int, typer.Option(help="Dimensions that share a code.")] = 2,
    lookup: Annotated[Literal["lut16", "lut256"], typer.Option(help="Codes of 4 or 8 bits.")] = "lut16",
    sample: Annotated[int, typer.Option(help="Rows that tree and codes are learned from, at most.")] = 100_000,
    iterations: Annotated[int, typer.Option(help="Of k-means.")] = 12,
    soar: Annotated[float, typer.Option(help="Weight of SOAR's second leaf for each row; 0 for one leaf.")] = 1.5,
    replace: Annotated[bool, typer.Option(help="Replace OUTPUT if it is there, also while it is searched.")] = False,
) -> str | Path:
    """Builds an index: exact under 20,000 photos, hashed under 100,000, else a tree of hashes, tuned to a recall.

    Recall is measured on rows of the collection as queries, which do not count among their own neighbours, against
    exact search over the descriptors. OUTPUT/manifest.json tells it, with queries a second and bytes a photo.
    """
    hashing = Hashing(threshold, block, lookup, sample, iterations, soar)
    settings = IndexSettings(recall, k, exact, rows, leaves, leaves_to_search, reorder, hashing)
    if is_milvus(output):
        from ..milvus_index.builder import write_collection

        photos, facts = _photos(descriptors, columns, dim)
        settings.check(len(photos.names), photos.dimensions)
        write_collection(output, photos, facts, settings, may_replace=replace).close()
        return output
    return _write_folder(Path(output), descriptors, columns, dim, settings, replace)


def _write_folder(
    output: Path, descriptors: Path, table: Path | None, dim: int | None, settings: IndexSettings, replace: bool
) -> Path:
    check_free(output, kind=KIND, replace=replace)
    photos, facts = _photos(descriptors, table, dim)
    settings.check(len(photos.names), photos.dimensions)
    started = time.monotonic()
    # A first index grows beside its place; another segment grows in the folder, under those that search it.
    there = (output / MANIFEST).exists()
    home = output if there else partial_of(output)
    home.mkdir(parents=True, exist_ok=True)
    with locked(home, "building"):
        place = new_segment(home, current_segment(output))
        facts |= build_segment(place, photos, settings)
        start_log(place, facts)
        with locked(home, "writing"):
            publish(home, place, facts)
        remove_other_segments(home, place.name)
    if not there:
        home.rename(output)
    _report(output, facts, time.monotonic() - started)
    return output


def _photos(folder: Path, table: Path | None, dim: int | None) -> tuple[PhotosToIndex, dict[str, object]]:
    """Checked photos of a folder of descriptors, and the facts of its manifest."""
    shards, names, manifest = read_descriptors(folder)
    check_names(names)

    def read() -> Iterator[np.ndarray]:
        return (piece for _, piece in blocks(shards, CHUNK))

    originals, width = Rows(read), shards[0].shape[1]
    check_rows(originals)
    # As many as there are is no shortening: queries of that width would be taken for shortened ones.
    projection = None if dim in (None, width) else learn_projection(originals, dim)
    columns = read_table(table, names) if table else {}
    facts = {key: manifest[key] for key in (*MADE_WITH, "photos", "fingerprint")} | {"dimensions": width}
    return PhotosToIndex(names, originals, dim or width, columns, projection), facts


def _report(output: Path, facts: dict[str, object], seconds: float) -> None:
    how = facts["configuration"]
    assert isinstance(how, dict)
    speed = f", {how['queries_per_second']:,.0f} queries/s" if "queries_per_second" in how else ""
    print(
        f"{output}: {facts['count']:,} photos, {how['kind']} search, recall@{how['k']} {how['recall']:.3f}{speed}, "
        f"{how['bytes_per_photo']:,.0f} bytes a photo, built in {seconds:.1f} s"
    )
    if how["recall"] < how["asked"]["recall"] - 0.01:
        print(
            f"The recall that was asked for is {how['asked']['recall']}: keep more of the descriptors (--rows, --dim)."
        )
