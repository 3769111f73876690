"""A network for TensorFlow Serving: `keras-retrieval export-saved-model model.keras SERVING/name --size 1024`.

A version folder takes the bytes of photos and answers with descriptors; what it is asked and answers stands in
`signatures.py`. Reading, turning and shrinking photos, all scales and the whitening are inside. It needs no Keras,
no code of ours and no operation that TensorFlow's own server has not.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.descriptors.describer import ANTIALIAS_HELP, MIRROR_HELP, describer, parse_scales
from keras_retrieval.pipelines.files.durable import FolderError, partial_of, seal
from keras_retrieval.pipelines.networks.files import load_model, model_identity, smallest_side
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS, list_photos
from keras_retrieval.pipelines.photos.reading import Reading

import keras_retrieval

from ..contract import signatures as names
from ..contract.drawn_photos import check_photos, warm_up_photos, write_photos
from ..contract.version_manifest import KIND, VERSION, differs
from ..index_contract.contract import NeighbourIndex
from ..indexes.open_index import open_index
from .check import COSINE, COSINE_AT_SIZE, Agreement, compare
from .graph import Reader, write_graph
from .warm_up import require_extra, write_warm_up

CHECKED = 16  # photos of a folder that are compared
README = "README.txt"


def export_saved_model(
    model: Annotated[str, typer.Argument(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")],
    output: Annotated[Path, typer.Argument(help="Folder of the model's versions; its name is the model's.")],
    *,
    size: Annotated[int, typer.Option(help="Longest side in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    antialias: Annotated[bool, typer.Option(help=ANTIALIAS_HELP)] = True,
    mirror: Annotated[bool, typer.Option(help=MIRROR_HELP)] = False,
    max_pixels: Annotated[int, typer.Option(help="Refuse photos that declare more pixels.")] = MAX_PIXELS,
    webp: Annotated[
        bool, typer.Option(help="Read WebP; servers of a TensorFlow without the operation (2.15, say) need --no-webp.")
    ] = True,
    version: Annotated[int | None, typer.Option(help="Of the version; one more than the newest if left out.")] = None,
    check: Annotated[Path | None, typer.Option(help="Folder of photos to compare with Keras; else drawn ones.")] = None,
    training_set: Annotated[str, typer.Option(help="What it was trained on, for README.txt.")] = "",
    index: Annotated[
        str | None, typer.Option(help="Index to put in, as `search`: only servers with ScaNN's operations load it.")
    ] = None,
) -> Path:
    """Writes a network as a version that TensorFlow Serving loads as it is, once it has described photos as Keras does.

    OUTPUT/VERSION appears whole, when the loaded version has a cosine of at least 0.9999 to Keras' descriptor on every
    photo compared (0.99999 on photos that are not shrunk). It holds warm-up requests, README.txt and manifest.json.
    """
    factors = parse_scales(scales)
    _require(model, size, max_pixels, version)
    require_extra()
    _version_folder(output, version)  # refused at once, not when the network has been loaded
    photos = list_photos(check) if check else []
    network = load_model(model)
    reader = Reader(size, factors, antialias, max_pixels, webp, mirror)
    held = None if index is None else _fitting(index, model, reader)
    output.mkdir(parents=True, exist_ok=True)
    with _alone_in(output):
        folder = _version_folder(output, version)
        partial = partial_of(folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            asked = write_graph(network, reader, partial, held)
            write_warm_up(partial, output.name, asked, warm_up_photos(size))
            agreement = _compared(network, reader, partial, check, photos)
            facts = _facts(network, model, reader, asked, training_set, agreement) | _index_facts(held)
            (partial / README).write_text(_readme(output.name, facts), encoding="utf-8")
            seal(partial, folder, kind=KIND, version=VERSION, **facts)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    print(f"{folder}: {', '.join(asked)}; {agreement.photos} photos compared, cosine at least {agreement.lowest:.6f}")
    for name, reason in agreement.refused.items():
        print(f"  not served, though Python reads it: {name}: {reason}")
    return folder


@contextmanager
def _alone_in(output: Path) -> Iterator[None]:
    """Keeps a model's folder from other exports, which wait: two would write the same version.

    The system lets go of it when the process ends, however that may be.
    """
    descriptor = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _require(model: str, size: int, max_pixels: int, version: int | None) -> None:
    if Path(model).suffix == ".onnx":
        raise ValueError(f"{model}: a SavedModel is made of a .keras file or a name, not of ONNX")
    if size < 1 or max_pixels < 1:
        raise ValueError(f"--size and --max-pixels are at least 1, not {size} and {max_pixels}")
    if version is not None and version < 1:
        raise ValueError(f"--version is at least 1, not {version}")


def _fitting(place: str, model: str, reader: Reader) -> NeighbourIndex:
    """Opens an index. Raises ValueError if it was made with another network, or in another way."""
    index = open_index(place)
    made = {"model": model_identity(model), "size": reader.size, "scales": list(reader.scales)}
    if reason := differs(made | {"antialias": reader.antialias, "mirror": reader.mirror}, index.facts):
        raise ValueError(f"{place} cannot go with {model}: {reason}")
    return index


def _index_facts(index: NeighbourIndex | None) -> dict[str, Any]:
    return {} if index is None else {"indexed_photos": len(index), "needs": "ScaNN's operations"}


def _version_folder(output: Path, version: int | None) -> Path:
    """Where the version goes.

    Raises:
        FolderError: it is there already, or `output` is a file.
    """
    if output.exists() and not output.is_dir():
        raise FolderError(f"{output} is a file: name a folder for the model's versions")
    taken = [int(path.name) for path in output.glob("*") if path.name.isdecimal()]
    if version in taken:
        raise FolderError(f"{output / str(version)} exists already, and servers may hold it: leave --version out")
    return output / str(version or max(taken, default=0) + 1)


def _compared(network: Any, reader: Reader, partial: Path, check: Path | None, names: list[str]) -> Agreement:
    describe = describer(network, reader.scales, antialias=reader.antialias, mirror=reader.mirror)
    smallest = smallest_side(network, reader.scales)
    with TemporaryDirectory() as drawn:
        photos = check or Path(drawn)
        found = names or write_photos(check_photos(reader.size), photos)
        rows = np.unique(np.linspace(0, len(found) - 1, CHECKED).astype(int))
        reading = Reading(photos, reader.size, max_pixels=reader.max_pixels, smallest=smallest)
        return compare(partial, describe, reading, [found[row] for row in rows])


def _facts(
    network: Any, model: str, reader: Reader, asked: list[str], training_set: str, agreement: Agreement
) -> dict[str, Any]:
    return {
        "network": network.name,
        "model": model_identity(model),
        "training_set": training_set or "not stated",
        "dimensions": network.output_shape[-1],
        "size": reader.size,
        "scales": list(reader.scales),
        "antialias": reader.antialias,
        "mirror": reader.mirror,
        "max_pixels": reader.max_pixels,
        "webp": reader.webp,
        "signatures": asked,
        "compared": agreement.photos,
        "lowest_cosine": round(agreement.lowest, 7),
        "made_by": f"keras-retrieval {keras_retrieval.__version__}",
    }


def _readme(name: str, facts: dict[str, Any]) -> str:
    lines = [f"{key.replace('_', ' '):16}{value}" for key, value in facts.items()]
    codes = [f"  {code}  {reason}" for code, reason in {names.OK: "described", **names.REASONS}.items()]
    return "\n".join(
        [
            f"{name}: a visual search network for TensorFlow Serving",
            "",
            *lines,
            "",
            "Photos are turned as EXIF says, shrunk to `size` (longest side, Lanczos) and never enlarged. Before this",
            f"folder had its name, descriptors of files were compared with Keras': cosine {COSINE} or more, and",
            f"{COSINE_AT_SIZE} where a photo was not shrunk.",
            "",
            (names.__doc__ or "").strip(),
            "",
            f"Codes of {names.STATUS}; the row of a photo that was not described is zero:",
            *codes,
            "",
        ]
    )
