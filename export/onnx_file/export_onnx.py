"""A network for the edge, as one ONNX file: `keras-retrieval export-onnx model.keras model.onnx --size 1024`.

Input `images` (batch, height, width, 3), float32, RGB 0..255; output `descriptors` (batch, dimensions), float32, of
length one. Batch, height and width are open. Pixel normalisation, scales and whitening are inside, and the file's
metadata say what it was made of and for. `keras-retrieval extract model.onnx PHOTOS OUT` needs no TensorFlow.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from keras_retrieval.pipelines.descriptors.describer import (
    ANTIALIAS_HELP,
    MIRROR_HELP,
    DescribeFn,
    describer,
    parse_scales,
)
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.networks.files import load_model, model_identity, smallest_side, takes_edges
from keras_retrieval.pipelines.networks.onnx_network import (
    ANY_SIDES,
    DIMENSIONS,
    EDGE_MAPS,
    INPUT,
    NETWORK,
    SCALES,
    SIDES,
    SIZE,
    SMALLEST,
    OnnxNetwork,
)
from keras_retrieval.pipelines.photos.reader import PhotoError, list_photos
from keras_retrieval.pipelines.photos.reading import Reading

import keras_retrieval

from .check import both, cosines, mean_average_precision, of_same_object, picture, pictures
from .conversion import convert, require_extra, stamp
from .quantization import quantize

TOLERANCE, COSINE = 1e-4, 0.99999
"""The largest difference of a number from Keras' descriptor, and the least cosine, for a float32 file to be kept."""

FP16_COSINE = 0.999
"""The least cosine to float32 for a float16 file to be kept: below it, numbers overflow or vanish."""

HALVES, HALVED = 4, 256  # batches that Keras describes in float16, slowly, and pixels of their sides
PHOTOS = 64  # that --int8 is calibrated on; as many others are compared


@dataclass(frozen=True)
class _Source:
    """What is exported: the network alone and joined over its scales, how to call it, and what the metadata say."""

    network: Any
    joined: Any
    describe: DescribeFn
    smallest: int
    size: int
    facts: dict[str, str]


class _Photo(NamedTuple):
    """A photo, (1, H, W, 3) uint8, and the folder that it lies in."""

    pixels: np.ndarray
    folder: str


def export_onnx(
    model: Annotated[str, typer.Argument(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")],
    output: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    *,
    size: Annotated[int, typer.Option(help="Longest side of the photos that it is for, in pixels.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    antialias: Annotated[bool, typer.Option(help=ANTIALIAS_HELP)] = True,
    mirror: Annotated[bool, typer.Option(help=MIRROR_HELP)] = False,
    fp16: Annotated[bool, typer.Option(help="Half the size: the trunk in float16.")] = False,
    int8: Annotated[bool, typer.Option(help="A quarter of the size: the trunk's convolutions in int8.")] = False,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of photos like yours: for --int8, and to compare --fp16 on.")
    ] = None,
    score: Annotated[
        bool, typer.Option(help="Folders in PHOTOS are objects: tell the mAP of --fp16 or --int8 next to float32's.")
    ] = False,
    training_set: Annotated[str, typer.Option(help="What it was trained on, for the metadata.")] = "",
) -> Path:
    """Writes a network as ONNX, once ONNX Runtime has given the same descriptors as Keras.

    Pictures of several sizes are compared, to 1e-4 in every number. --fp16 and --int8 start from a file that passed;
    their cosines to it on photos that they were not calibrated on, and with --score what they lose in mAP, are printed
    and kept in the metadata. `keras-retrieval evaluate` takes the file for a whole dataset.
    """
    factors = parse_scales(scales)
    _check(model, output, size, fp16, int8, calibrate, score)
    require_extra()
    network = load_model(model)
    smallest = smallest_side(network, factors)
    photos = _photos(Reading(calibrate, size, smallest=smallest)) if calibrate else []
    compared = photos[1::2] if int8 else photos
    positives = of_same_object([photo.folder for photo in compared]) if score else []
    facts = {
        NETWORK: network.name,
        DIMENSIONS: str(network.output_shape[-1]),
        SIZE: str(size),
        SCALES: ",".join(map(str, factors)),
        SMALLEST: str(smallest),
        INPUT: EDGE_MAPS if takes_edges(network) else "photos",
        "antialias": str(antialias).lower(),
        "mirror": str(mirror).lower(),
        "pixels": "RGB 0..255, float32; photos are shrunk to size (Lanczos) and never enlarged",
        "precision": "float32",
        "source": model_identity(model).get("sha256", model),
        "training_set": training_set or "unknown",
    }
    joined = keras_retrieval.multi_scale(network, factors, antialias=antialias, mirror=mirror)
    describe = describer(network, factors, antialias=antialias, mirror=mirror)
    source = _Source(network, joined, describe, smallest, size, facts)
    with TemporaryDirectory() as folder:
        made = exact = _float32(source, Path(folder))
        if fp16:
            made = _float16(source, exact, compared, positives)
        elif int8:
            made = _int8(source, exact, photos[::2], compared, positives)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_file(output, made.read_bytes())
    _report(output)
    return output


def _check(model: str, output: Path, size: int, fp16: bool, int8: bool, calibrate: Path | None, score: bool) -> None:
    if output.suffix != ".onnx" or Path(model).suffix == ".onnx":
        raise ValueError(f"{model} to {output}: a .keras file or a name is exported, to a file with the ending .onnx")
    if size < 1:
        raise ValueError(f"--size is at least 1, not {size}")
    if int8 and (fp16 or calibrate is None):
        raise ValueError("--int8 needs photos like those that will be described, --calibrate PHOTOS, and no --fp16")
    if score and (calibrate is None or not (fp16 or int8)):
        raise ValueError(
            "--score compares --fp16 or --int8 with float32 on photos: it needs one, and --calibrate PHOTOS"
        )


def _photos(reading: Reading) -> list[_Photo]:
    """Photos spread over a folder: every second is for calibration, the others to compare."""
    names = list_photos(reading.folder)
    photos = []
    for row in np.unique(np.linspace(0, len(names) - 1, 2 * PHOTOS).astype(int)):
        try:
            photos.append(_Photo(reading.read(names[row])[None], str(PurePosixPath(names[row]).parent)))
        except PhotoError as error:
            print(f"left out: {error}")
    if len(photos) < 2:
        raise ValueError(f"{reading.folder}: one photo to calibrate on and another to compare are the least")
    return photos


def _float32(source: _Source, folder: Path) -> Path:
    """Converts and compares with Keras; where open sizes are too much for the converter, one size is tried."""
    path = folder / "float32.onnx"
    drawn = pictures(source.smallest, source.size)
    try:
        made = _converted(source, path, None)
    except Exception as error:  # TensorFlow, tf2onnx and ONNX Runtime each raise their own
        print(f"open sizes cannot be converted, {source.size} x {source.size} is tried: {_first_line(error)}")
        try:
            made, drawn = _converted(source, path, source.size), _drawn_at(source.size)
        except Exception as other:
            raise ValueError(f"{source.network.name} cannot be written as ONNX: {_first_line(other)}") from other
    x, y = both(made.describe, source.describe, drawn)
    difference, least = np.abs(x - y).max(), cosines(x, y).min()
    print(f"{len(drawn)} batches compared with Keras: difference {difference:.1e}, cosine {least:.7f}")
    if not (difference <= TOLERANCE and least >= COSINE):
        raise ValueError(f"{source.network.name} as ONNX differs from Keras by {difference:.1e}: nothing was written")
    return path


def _converted(source: _Source, path: Path, side: int | None) -> OnnxNetwork:
    convert(source.joined, (side, side), path, source.smallest)
    sides = ANY_SIDES if side is None else f"{side}x{side}"
    stamp(path, keras_retrieval.__version__, source.facts | {SIDES: sides})
    return OnnxNetwork(path)


def _drawn_at(side: int) -> list[np.ndarray]:
    return [picture(batch, side, side) for batch in (1, 2)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _float16(source: _Source, exact: Path, photos: list[_Photo], positives: list[np.ndarray]) -> Path:
    """Converts again with the trunk in float16; powers and sums behind it would overflow and stay float32.

    ONNX Runtime on a CPU computes it in float32, so that Keras is asked too what becomes of numbers in float16.
    """
    from keras_retrieval.networks.precision import set_trunk_precision

    reference = OnnxNetwork(exact)
    side = source.size if reference.sides else None
    if side and positives:
        raise ValueError(f"{source.network.name} takes {reference.sides} pixels only: --score needs open sizes")
    compared = [photo.pixels for photo in photos] or pictures(source.smallest, source.size)
    drawn = _drawn_at(source.size) if side else compared
    set_trunk_precision(source.network, "mixed_float16")
    path = exact.with_name("float16.onnx")
    convert(source.joined, (side, side), path, source.smallest)
    least = _compare(path, reference, "float16", drawn, positives)
    most = max(HALVED, source.smallest)
    parts = [images[:, :most, :most] for images in drawn[:HALVES]]
    halved = cosines(*both(describer(source.joined), reference.describe, parts))
    least = float(np.min([least, *halved]))  # NaN where a number is not finite
    if not least >= FP16_COSINE:
        raise ValueError(f"{source.network.name} does not fit float16, cosine {least:.4f}: export it without --fp16")
    return path


def _int8(
    source: _Source, exact: Path, calibrate: list[_Photo], photos: list[_Photo], positives: list[np.ndarray]
) -> Path:
    reference = OnnxNetwork(exact)
    if reference.sides:
        raise ValueError(f"{source.network.name} takes {reference.sides} pixels only: --int8 needs open sizes")
    path = exact.with_name("int8.onnx")
    quantize(exact, path, [photo.pixels for photo in calibrate])
    _compare(path, reference, "int8", [photo.pixels for photo in photos], positives)
    return path


def _compare(
    path: Path, reference: OnnxNetwork, precision: str, batches: list[np.ndarray], positives: list[np.ndarray]
) -> float:
    """The least cosine of a lighter file to the float32 one. It is printed and kept in the file, and so is the mAP."""
    facts = reference.facts | {"precision": precision}
    stamp(path, keras_retrieval.__version__, facts)
    lighter, exact = both(OnnxNetwork(path).describe, reference.describe, batches)
    close = cosines(lighter, exact)
    facts |= {"cosine_least": f"{close.min():.6f}", "cosine_mean": f"{close.mean():.6f}"}
    print(f"{precision}: cosine to float32 at least {close.min():.5f}, mean {close.mean():.5f}, on {len(close)} photos")
    if positives:
        before, after = (mean_average_precision(rows, positives) for rows in (exact, lighter))
        facts |= {"map_float32": f"{before:.2f}", "map": f"{after:.2f}"}
        print(f"{precision}: mAP {after:.2f} against {before:.2f} in float32, the photos searching each other")
    stamp(path, keras_retrieval.__version__, facts)
    return float(close.min())


def _report(output: Path) -> None:
    network = OnnxNetwork(output)
    taken = f"photos of {network.sides} only" if network.sides else "photos of any size"
    megabytes = output.stat().st_size / 1e6
    print(f"{output}: {network.name}, {taken}, {network.output_shape[1]} dimensions, {megabytes:.1f} MB")
