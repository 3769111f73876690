"""Writes a network as a version for TensorFlow Serving: SavedModel, warm-up requests, README.txt and manifest.json."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import describer
from keras_retrieval.pipelines.files.durable import partial_of, seal
from keras_retrieval.pipelines.files.space import naming_full_disk
from keras_retrieval.pipelines.networks.files import load_model, model_identity, smallest_side, weights_size
from keras_retrieval.pipelines.photos.intake import list_photos
from keras_retrieval.pipelines.photos.reading import Reading

import keras_retrieval

from ..contract.drawn_photos import check_photos, warm_up_photos, write_photos
from ..contract.version_manifest import KIND, VERSION, mismatch
from ..index_contract.contract import NeighbourIndex
from ..indexes.kinds import require_no_crops
from ..indexes.open_index import open_index
from .check import Agreement, compare
from .errors import SavedModelError
from .graph import write_graph
from .options import ExportSavedModelOptions
from .readme import readme
from .version_folder import locked, version_folder
from .warm_up import require_extra, write_warm_up

CHECKED = 16  # maximum number of photos on which a version is compared with Keras
README = "README.txt"


@dataclass(frozen=True)
class ExportedVersion:
    """A version that was written, compared with Keras and published.

    Attributes:
        folder: path of the version folder, OUTPUT/VERSION.
        signatures: names of the signatures.
        agreement: result of comparing the version's descriptors with those of Keras.
    """

    folder: Path
    signatures: list[str]
    agreement: Agreement


def export_version(options: ExportSavedModelOptions) -> ExportedVersion:
    """Writes a version to a temporary folder, compares it with Keras, and publishes it by renaming the folder.

    Raises:
        MissingExtraError: TensorFlow Serving's message types, or ScaNN for an index, are not installed.
        FolderError: the version exists already, or OUTPUT is a file.
        SavedModelError: a descriptor of the version differs too much from that of Keras, no photo can be compared, or
            the index was made with another network.
        DiskSpaceError: the disk is full; no part of the version is left.
        RetrievalError: the network cannot be loaded, or the photos or the index cannot be read.
    """
    version_folder(options.output, options.version)  # raises an error now instead of after the network has been loaded
    photos = list_photos(options.check_photos) if options.check_photos else []
    require_extra()
    network = load_model(options.model)
    index = None if options.index is None else _open_index(options.index, options)
    options.output.mkdir(parents=True, exist_ok=True)
    with locked(options.output):
        folder = version_folder(options.output, options.version)
        partial = partial_of(folder)
        shutil.rmtree(partial, ignore_errors=True)
        with naming_full_disk(folder, weights_size(network)), _removed(partial):
            signatures = write_graph(network, options, partial, index)
            write_warm_up(partial, options.output.name, signatures, warm_up_photos(options.size))
            agreement = _compare(network, options, partial, photos)
            facts = _facts(network, options, signatures, agreement)
            if index is not None:
                facts |= {"indexed_photos": len(index), "needs": "ScaNN's operations"}
            (partial / README).write_text(readme(options.output.name, facts), encoding="utf-8")
            seal(partial, folder, kind=KIND, version=VERSION, **facts)
    return ExportedVersion(folder, signatures, agreement)


@contextmanager
def _removed(partial: Path) -> Iterator[None]:
    """Makes a temporary folder, and removes it at the end."""
    try:
        partial.mkdir()
        yield
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open_index(place: str, options: ExportSavedModelOptions) -> NeighbourIndex:
    """Opens an index, and checks that it was made with the same network and options."""
    index = open_index(place)
    require_no_crops(place, index.facts)
    made = {"model": model_identity(options.model), "size": options.size, "scales": list(options.factors)}
    if reason := mismatch(made | {"antialias": options.antialias, "mirror": options.mirror}, index.facts):
        raise SavedModelError(f"{place} does not fit {options.model}: {reason}")
    return index


def _compare(network: Any, options: ExportSavedModelOptions, partial: Path, photos: list[str]) -> Agreement:
    """Compares a written version with Keras on the given photos, or on synthetic photos if none are given."""
    describe = describer(network, options.factors, antialias=options.antialias, mirror=options.mirror)
    smallest = smallest_side(network, options.factors)
    with TemporaryDirectory() as drawn:
        folder = options.check_photos or Path(drawn)
        names = photos or write_photos(check_photos(options.size), folder)
        rows = np.unique(np.linspace(0, len(names) - 1, CHECKED).astype(int))
        reading = Reading(folder, options.size, max_pixels=options.max_pixels, smallest=smallest)
        return compare(partial, describe, reading, [names[row] for row in rows])


def _facts(
    network: Any, options: ExportSavedModelOptions, signatures: list[str], agreement: Agreement
) -> dict[str, Any]:
    """Collects the entries of manifest.json, which README.txt lists as well."""
    return {
        "network": network.name,
        "model": model_identity(options.model),
        "training_set": options.training_set or "not stated",
        "dimensions": network.output_shape[-1],
        "size": options.size,
        "scales": list(options.factors),
        "antialias": options.antialias,
        "mirror": options.mirror,
        "max_pixels": options.max_pixels,
        "webp": options.webp,
        "signatures": signatures,
        "compared": agreement.photos,
        "lowest_cosine": round(agreement.lowest, 7),
        "made_by": f"keras-retrieval {keras_retrieval.__version__}",
    }
