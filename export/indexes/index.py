"""Builds an index from descriptors: `keras-retrieval index DESCRIPTORS INDEX --recall 0.95 --k 10`."""

import time
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.local_features.folder import local_features_of

from keras_retrieval.stopping import reporting_stop

from ..folder_index.index_at_address import index_at_address
from ..folder_index.writer import check_output, write_index
from ..index_contract.column_table import parse_types
from ..index_contract.index_settings import EXACT_BELOW, IndexSettings
from ..index_contract.photos_to_index import PhotosToIndex
from ..milvus_index.address import is_milvus
from .descriptor_input import photos_from_descriptors
from .index_options import IndexOptions
from .kinds import remote_index
from .local_store import add_local_features, drop_local_features

ADVICE = 'ScaNN makes searches faster: pip install "keras-retrieval[index]"'
_TOLERANCE = 0.01  # difference to the requested recall up to which no remark is printed


@takes(IndexOptions)
def index(options: IndexOptions) -> str | Path:
    """Builds an index of descriptors whose search is tuned by measurement to reach a recall.

    Descriptors of crops (`extract --crops`) are rows of one index, in which the best row of a photo counts.

    Below 20,000 photos the search is exact. From 20,000 photos on it compares ScaNN's hashes of the photos in some
    leaves of a tree, and rescores the best candidates with the stored descriptors. Recall is the share of the k true
    nearest neighbours that a search finds. It is measured with photos of the collection as queries, each excluded from
    its own neighbours, against exact search over the descriptors. OUTPUT/manifest.json states the measured recall,
    queries per second and bytes per photo.

    Local features of the photos (`extract --local`) are taken over into an index folder, for `search --verify`.

    Returns:
        OUTPUT: the path of the index folder, also of one at an address, or the address of the Milvus collection.

    Raises:
        ArgumentError: an option is out of range, also for the number of photos (--leaves) or the dimensions of the
            descriptors (--dim, --block); a name is repeated; or a descriptor is not finite.
        FolderError: DESCRIPTORS does not contain descriptors, or OUTPUT exists and may not be replaced.
        CollectionError: the Milvus collection exists and may not be replaced.
        IndexFileNotFoundError: the table of columns does not exist.
        ColumnTableError: the table of columns cannot be parsed.
        IndexBusyError: another process is writing to the index folder or rebuilding it.
        MilvusError, MilvusConnectionError: the Milvus server cannot be reached, or reports an error.
        MissingExtraError: ScaNN or Milvus' client is needed but not installed.
        RemoteError: the storage of the address OUTPUT does not answer, or refuses.
        DiskSpaceError: the disk is full; an existing index is unchanged, and nothing else is left.
    """
    output, address = options.output, remote_index(options.output)
    if address:
        with index_at_address(address, may_replace=options.replace) as folder:
            _build(options, folder, shown(address))
        return Path(output)
    if not is_milvus(output):
        check_output(Path(output), may_replace=options.replace)
    _build(options, Path(output), output)
    return output if is_milvus(output) else Path(output)


def _build(options: IndexOptions, folder: Path, label: str) -> None:
    """Builds the index in a folder that may be written, or a collection, and prints `label` and the figures."""
    output, settings, milvus = options.output, options.settings(), is_milvus(options.output)
    photos, facts = photos_from_descriptors(
        Path(options.descriptors), options.columns, options.dim, parse_types(options.types)
    )
    settings.check_collection(photos.row_count, photos.dimensions)
    if photos.crops is not None and not milvus and _lacks_scann(settings, len(photos.names)):
        settings = replace(settings, exact=True)
        print(f"Each search compares all {photos.row_count:,} rows: {ADVICE}")
    started = time.monotonic()
    if milvus:
        from ..milvus_index.builder import write_collection

        opened = write_collection(output, photos, facts, settings, may_replace=options.replace)
        label, configuration = str(opened.address), opened.facts["configuration"]
        opened.close()
    else:
        local = local_features_of(Path(options.descriptors))
        kept = "is as before" if folder.exists() else "was not written"
        with reporting_stop(lambda: f"keras-retrieval index: stopped: {label} {kept}"):
            configuration = write_index(folder, photos, facts, settings)["configuration"]
            if local is None:
                drop_local_features(folder)
            else:
                features = add_local_features(folder, local, photos.names, replace=True)
    _print(label, photos, configuration, time.monotonic() - started)
    if not milvus and local is not None:
        print(f"{label}: local features of {features.count:,} photos, {features.bytes_per_photo:,} bytes each")


def _lacks_scann(settings: IndexSettings, photos: int) -> bool:
    """Whether ScaNN is missing, and an index with crops of few photos, which without crops needs none, goes without."""
    return settings.leaves is None and photos < EXACT_BELOW and find_spec("scann") is None


def _print(label: str, photos: PhotosToIndex, configuration: Mapping[str, Any], seconds: float) -> None:
    rate, size = configuration.get("queries_per_second"), configuration.get("bytes_per_photo")
    figures = [
        f"{label}: {len(photos.names):,} photos",
        *([] if photos.crops is None else [f"{photos.row_count:,} crops"]),
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
