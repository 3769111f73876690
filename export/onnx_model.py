"""A network for the edge, as one ONNX file: `keras-retrieval export-onnx model.keras model.onnx --size 1024`.

Input `images` (batch, height, width, 3), float32, RGB 0..255; output `descriptors` (batch, dimensions), float32, of
length one. Batch, height and width are open. Pixel normalisation, scales and whitening are inside, and the file's
metadata say what it was made of and for. `keras-retrieval extract model.onnx PHOTOS OUT` needs no TensorFlow.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.describe import (
    ANTIALIAS_HELP,
    MIRROR_HELP,
    Describe,
    Reading,
    describer,
    load_model,
    model_identity,
    parse_scales,
    smallest_side,
)
from keras_retrieval.pipelines.folders import write_file
from keras_retrieval.pipelines.images import PhotoError, list_photos
from keras_retrieval.pipelines.onnx_network import (
    ANY_SIDES,
    DIMENSIONS,
    NETWORK,
    SCALES,
    SIDES,
    SIZE,
    SMALLEST,
    OnnxNetwork,
)

import keras_retrieval

from .onnx_conversion import compare, convert, picture, pictures, require_extra, stamp
from .onnx_quantization import quantize

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
    describe: Describe
    smallest: int
    size: int
    facts: dict[str, str]


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
    training_set: Annotated[str, typer.Option(help="What it was trained on, for the metadata.")] = "",
) -> Path:
    """Writes a network as ONNX, once ONNX Runtime has given the same descriptors as Keras.

    Pictures of several sizes are compared, to 1e-4 in every number. --fp16 and --int8 start from a file that passed;
    their cosines to it are printed and kept in the metadata, and `keras-retrieval evaluate` tells their mAP.
    """
    factors = parse_scales(scales)
    _check(model, output, size, fp16, int8, calibrate)
    require_extra()
    network = load_model(model)
    smallest = smallest_side(network, factors)
    photos = _photos(Reading(calibrate, size, smallest=smallest)) if calibrate else []
    facts = {
        NETWORK: network.name,
        DIMENSIONS: str(network.output_shape[-1]),
        SIZE: str(size),
        SCALES: ",".join(map(str, factors)),
        SMALLEST: str(smallest),
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
            made = _float16(source, exact, photos)
        elif int8:
            made = _int8(source, exact, photos)
        output.parent.mkdir(parents=True, exist_ok=True)
        write_file(output, made.read_bytes())
    _report(output)
    return output


def _check(model: str, output: Path, size: int, fp16: bool, int8: bool, calibrate: Path | None) -> None:
    if output.suffix != ".onnx" or Path(model).suffix == ".onnx":
        raise ValueError(f"{model} to {output}: a .keras file or a name is exported, to a file with the ending .onnx")
    if size < 1:
        raise ValueError(f"--size is at least 1, not {size}")
    if int8 and (fp16 or calibrate is None):
        raise ValueError("--int8 needs photos like those that will be described, --calibrate PHOTOS, and no --fp16")


def _photos(reading: Reading) -> list[np.ndarray]:
    """Photos spread over a folder, each (1, H, W, 3) uint8: every second is for calibration, the others to compare."""
    names = list_photos(reading.folder)
    photos = []
    for row in np.unique(np.linspace(0, len(names) - 1, 2 * PHOTOS).astype(int)):
        try:
            photos.append(reading.read(names[row])[None])
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
    difference, cosines = compare(made.describe, source.describe, drawn)
    print(f"{len(drawn)} batches compared with Keras: difference {difference:.1e}, cosine {cosines.min():.7f}")
    if not (difference <= TOLERANCE and cosines.min() >= COSINE):
        raise ValueError(f"{source.network.name} as ONNX differs from Keras by {difference:.1e}: nothing was written")
    return path


def _converted(source: _Source, path: Path, side: int | None) -> OnnxNetwork:
    convert(source.joined, (side, side), path)
    sides = ANY_SIDES if side is None else f"{side}x{side}"
    stamp(path, keras_retrieval.__version__, source.facts | {SIDES: sides})
    return OnnxNetwork(path)


def _drawn_at(side: int) -> list[np.ndarray]:
    return [picture(batch, side, side) for batch in (1, 2)]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _float16(source: _Source, exact: Path, photos: list[np.ndarray]) -> Path:
    """Converts again with the trunk in float16; powers and sums behind it would overflow and stay float32.

    ONNX Runtime on a CPU computes it in float32, so that Keras is asked too what becomes of numbers in float16.
    """
    from keras_retrieval.precision import set_trunk_precision

    reference = OnnxNetwork(exact)
    side = source.size if reference.sides else None
    drawn = _drawn_at(source.size) if side else photos or pictures(source.smallest, source.size)
    set_trunk_precision(source.network, "mixed_float16")
    path = exact.with_name("float16.onnx")
    convert(source.joined, (side, side), path)
    least = _compare(path, reference, "float16", drawn)
    halved = describer(source.joined)
    _, cosines = compare(halved, reference.describe, [images[:, :HALVED, :HALVED] for images in drawn[:HALVES]])
    least = float(np.min([least, *cosines]))  # NaN where a number is not finite
    if not least >= FP16_COSINE:
        raise ValueError(f"{source.network.name} does not fit float16, cosine {least:.4f}: export it without --fp16")
    return path


def _int8(source: _Source, exact: Path, photos: list[np.ndarray]) -> Path:
    reference = OnnxNetwork(exact)
    if reference.sides:
        raise ValueError(f"{source.network.name} takes {reference.sides} pixels only: --int8 needs open sizes")
    path = exact.with_name("int8.onnx")
    quantize(exact, path, photos[::2])
    _compare(path, reference, "int8", photos[1::2])
    return path


def _compare(path: Path, reference: OnnxNetwork, precision: str, photos: list[np.ndarray]) -> float:
    """The least cosine of a lighter file to the float32 one; printed, and kept in its metadata."""
    facts = reference.facts | {"precision": precision}
    stamp(path, keras_retrieval.__version__, facts)
    _, cosines = compare(OnnxNetwork(path).describe, reference.describe, photos)
    least, mean = float(cosines.min()), float(cosines.mean())
    print(f"{precision}: cosine to float32 at least {least:.5f}, mean {mean:.5f}, on {len(cosines)} photos")
    stamp(path, keras_retrieval.__version__, facts | {"cosine_least": f"{least:.6f}", "cosine_mean": f"{mean:.6f}"})
    return least


def _report(output: Path) -> None:
    network = OnnxNetwork(output)
    taken = f"photos of {network.sides} only" if network.sides else "photos of any size"
    megabytes = output.stat().st_size / 1e6
    print(f"{output}: {network.name}, {taken}, {network.output_shape[1]} dimensions, {megabytes:.1f} MB")
