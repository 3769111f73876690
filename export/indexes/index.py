"""Builds an index from descriptors: `keras-retrieval index DESCRIPTORS INDEX --recall 0.95 --k 10`."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.command.options import takes

from ..folder_index.writer import check_output, write_index
from ..milvus_index.address import is_milvus
from .descriptor_input import photos_from_descriptors
from .index_options import IndexOptions

_TOLERANCE = 0.01  # the shortfall of the measured recall up to which no remark is printed


@takes(IndexOptions)
def index(options: IndexOptions) -> str | Path:
    """Builds an index of descriptors, tuned by measurement to a recall.

    Below 20,000 photos the search is exact; below 100,000 it compares hashes, above that it visits leaves of a tree of
    hashes (ScaNN), and rescores the best candidates with the stored descriptors. The recall is measured with photos of
    the collection as queries, each excluded from its own neighbours, against exact search over the descriptors.
    OUTPUT/manifest.json states it, with queries per second and bytes per photo.

    Returns:
        The path or address of the index, `output`.

    Raises:
        ArgumentError: an option is out of range or does not fit the descriptors, names are repeated, or rows are not
            finite.
        FolderError: DESCRIPTORS does not contain descriptors, or OUTPUT may not be replaced.
        CollectionError: the collection may not be replaced.
        ColumnTableError: the table of columns is damaged.
        MissingExtraError: ScaNN or Milvus' client is needed but not installed.
    """
    output, settings = options.output, options.settings()
    milvus = is_milvus(output)
    if not milvus:
        check_output(Path(output), may_replace=options.replace)
    photos, facts = photos_from_descriptors(Path(options.descriptors), options.columns, options.dim)
    settings.check_collection(len(photos.names), photos.dimensions)
    started = time.monotonic()
    if milvus:
        from ..milvus_index.builder import write_collection

        opened = write_collection(output, photos, facts, settings, may_replace=options.replace)
        label, configuration = str(opened.address), opened.facts["configuration"]
        opened.close()
    else:
        label, configuration = str(output), write_index(Path(output), photos, facts, settings)["configuration"]
    _print(label, len(photos.names), configuration, time.monotonic() - started)
    return output if milvus else Path(output)


def _print(label: str, count: int, configuration: Mapping[str, Any], seconds: float) -> None:
    rate, size = configuration.get("queries_per_second"), configuration.get("bytes_per_photo")
    figures = [
        f"{label}: {count:,} photos",
        f"{configuration['kind']} search",
        f"recall@{configuration['k']} {configuration['recall']:.3f}",
        *([] if rate is None else [f"{rate:,.0f} queries per second"]),
        *([] if size is None else [f"{size:,.0f} bytes per photo"]),
        f"built in {seconds:.1f} s",
    ]
    print(", ".join(figures))
    requested = configuration["settings"]["recall"]
    if configuration["recall"] < requested - _TOLERANCE:
        print(f"The recall is below the requested {requested}: store more of the descriptors (--rows, --dim).")
