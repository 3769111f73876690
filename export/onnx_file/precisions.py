"""Writes a network as ONNX in float32, and then in float16 or int8, and compares the descriptors of each file."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import describer
from keras_retrieval.pipelines.networks.onnx_network import ANY_SIDES, SIDES, OnnxNetwork
from keras_retrieval.pipelines.runtimes.conversion import convert, stamp

import keras_retrieval
from keras_retrieval.errors import first_line

from ..photo_graph.reader import at_least
from .check import cosines, describe_both, drawn_batch, drawn_batches, mean_average_precision
from .errors import OnnxExportError
from .quantization import quantize
from .source import ExportSource, MeasuredPhoto

TOLERANCE, COSINE = 1e-4, 0.99999
"""Limits for a float32 file: maximum difference of a component from Keras' descriptor, minimum cosine similarity."""

FP16_COSINE = 0.999
"""Minimum cosine similarity of a float16 file to float32; below it, activations have overflowed or underflowed."""

FEW = 32
"""Fewer photos to calibrate int8 on are answered with a warning."""

HALVED_BATCHES, HALVED_SIDE = 4, 256  # maximum number of batches and side in pixels for Keras in float16 (slow)

log = logging.getLogger("keras_retrieval")


def write_float32(source: ExportSource, folder: Path) -> Path:
    """Converts a network to a float32 ONNX file, and compares the file with Keras on synthetic photos.

    The file accepts photos of any size, unless this conversion fails. Then it accepts only squares of side
    `source.size`.

    Args:
        source: network to export.
        folder: folder to write the file to.

    Returns:
        The path of the .onnx file.

    Raises:
        OnnxExportError: the network cannot be converted, or a descriptor of the file differs too much from Keras.
    """
    path, name = folder / "float32.onnx", source.network.name
    batches = drawn_batches(source.smallest, source.size)
    try:
        converted = _convert(source, path, None)
    except Exception as error:  # TensorFlow, tf2onnx and ONNX Runtime each raise their own errors
        log.info(
            "%s cannot be converted for photos of any size, so for %d x %d only: %s",
            name,
            source.size,
            source.size,
            first_line(error),
        )
        try:
            converted, batches = _convert(source, path, source.size), _batches_of_side(source.size)
        except Exception as other:
            raise OnnxExportError(f"{name} cannot be written as ONNX: {first_line(other)}") from other
    x, y = describe_both(converted.describe, source.describe, batches)
    difference, lowest = np.abs(x - y).max(), cosines(x, y).min()
    log.info("%d batches compared with Keras: difference %.1e, cosine %.7f", len(batches), difference, lowest)
    if not (difference <= TOLERANCE and lowest >= COSINE):
        raise OnnxExportError(f"{name} as ONNX differs from Keras by {difference:.1e}: nothing was written")
    return path


def write_float16(
    source: ExportSource, exact: Path, photos: Sequence[MeasuredPhoto], positives: list[np.ndarray]
) -> Path:
    """Converts a network to an ONNX file with the trunk in float16, and compares it with the float32 file.

    Pooling and whitening stay in float32, because they would overflow in float16. ONNX Runtime on a CPU computes
    float16 files in float32, so that the file alone would not show an overflow; therefore the descriptors of Keras in
    float16 are compared with the float32 file as well.

    Args:
        source: network to export, whose trunk is changed to float16.
        exact: path of the float32 file.
        photos: photos to compare on; synthetic photos are used if there are none.
        positives: positives from `positives_by_object`, to compare the mAP as well; [] to omit the mAP.

    Returns:
        The path of the .onnx file, in the folder of `exact`.

    Raises:
        OnnxExportError: activations exceed the range of float16, or the mAP is requested although the float32 file
            accepts photos of one size only.
    """
    from keras_retrieval.networks.precision import set_trunk_precision

    reference = OnnxNetwork(exact)
    side = source.size if reference.sides else None
    if side and positives:
        raise _one_size_only("--score", reference)
    compared = [photo.pixels for photo in photos] or drawn_batches(source.smallest, source.size)
    batches = _batches_of_side(source.size) if side else compared
    set_trunk_precision(source.network, "mixed_float16")
    path = exact.with_name("float16.onnx")
    convert(source.joined, (side, side), path, source.smallest, at_least)
    lowest = _compare(path, reference, "float16", batches, positives)
    most = max(HALVED_SIDE, source.smallest)
    parts = [images[:, :most, :most] for images in batches[:HALVED_BATCHES]]
    halved = cosines(*describe_both(describer(source.joined), reference.describe, parts))
    lowest = float(np.min([lowest, *halved]))  # NaN if a descriptor is not finite
    if not lowest >= FP16_COSINE:
        raise OnnxExportError(
            f"{source.network.name} does not fit float16, cosine {lowest:.4f} to float32: export it without --fp16"
        )
    return path


def write_int8(
    source: ExportSource,
    exact: Path,
    calibration: Sequence[MeasuredPhoto],
    photos: Sequence[MeasuredPhoto],
    positives: list[np.ndarray],
    least: float,
) -> Path:
    """Quantizes the trunk to int8, writes the ONNX file, and compares it with the float32 file.

    The result of the comparison is logged and written into the metadata of the file: the smallest and the mean cosine
    similarity of the descriptors of both files, and the mAP of both files if it is requested.

    Args:
        source: network to export.
        exact: path of the float32 file.
        calibration: photos from which the ranges of activations are measured.
        photos: other photos, to compare on.
        positives: positives from `positives_by_object`, to compare the mAP as well; [] to omit the mAP.
        least: the lowest cosine similarity that a photo's descriptor may have to that of the float32 file.

    Returns:
        The path of the .onnx file, in the folder of `exact`.

    Raises:
        OnnxExportError: the float32 file accepts photos of one size only; or a photo's similarity is below `least`.
    """
    reference = OnnxNetwork(exact)
    if reference.sides:
        raise _one_size_only("--int8", reference)
    path = exact.with_name("int8.onnx")
    quantize(exact, path, [photo.pixels for photo in calibration])
    if len(calibration) < FEW:
        log.warning("int8 is calibrated on %d photos: give --calibrate %d or more", len(calibration), 2 * FEW)
    lowest = _compare(path, reference, "int8", [photo.pixels for photo in photos], positives)
    if not lowest >= least:
        raise OnnxExportError(
            f"{source.network.name} in int8 has a cosine of {lowest:.4f} to float32, less than --least-cosine "
            f"{least:g}: calibrate on more photos like those that will be described, export without --int8, or accept "
            "a lower one"
        )
    return path


def _convert(source: ExportSource, path: Path, side: int | None) -> OnnxNetwork:
    """Converts a network for square photos of side `side`, or for photos of any size if `side` is None."""
    convert(source.joined, (side, side), path, source.smallest, at_least)
    sides = ANY_SIDES if side is None else f"{side}x{side}"
    stamp(path, keras_retrieval.__version__, source.facts | {SIDES: sides})
    return OnnxNetwork(path)


def _batches_of_side(side: int) -> list[np.ndarray]:
    return [drawn_batch(batch, side, side) for batch in (1, 2)]


def _one_size_only(option: str, network: OnnxNetwork) -> OnnxExportError:
    return OnnxExportError(
        f"{option} needs a network for photos of any size: {network.name} takes photos of {network.sides} pixels only"
    )


def _compare(
    path: Path, reference: OnnxNetwork, precision: str, batches: list[np.ndarray], positives: list[np.ndarray]
) -> float:
    """Compares a float16 or int8 file with the float32 file; logs cosines and mAP, and writes them into its metadata.

    Returns:
        The smallest cosine similarity.
    """
    facts = reference.facts | {"precision": precision}
    stamp(path, keras_retrieval.__version__, facts)
    reduced, exact = describe_both(OnnxNetwork(path).describe, reference.describe, batches)
    close = cosines(reduced, exact)
    lowest, mean = close.min(), close.mean()
    facts |= {"cosine_least": f"{lowest:.6f}", "cosine_mean": f"{mean:.6f}"}
    log.info("%s: cosine to float32 at least %.5f, mean %.5f, on %d photos", precision, lowest, mean, len(close))
    if positives:
        before, after = (mean_average_precision(rows, positives) for rows in (exact, reduced))
        facts |= {"map_float32": f"{before:.2f}", "map": f"{after:.2f}"}
        log.info("%s: mAP %.2f, against %.2f in float32, each photo searching the others", precision, after, before)
    stamp(path, keras_retrieval.__version__, facts)
    return float(lowest)
