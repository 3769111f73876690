"""Static int8 quantization of the convolutions of an ONNX network, calibrated on photos."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .conversion import INPUT

TYPES = ("Conv", "Relu", "MaxPool")
"""Operations that are computed in int8.

Relu and MaxPool are among them because converting to float32 between two convolutions is slower and, before a Relu,
spends half of the quantized range on negative numbers. The pooling layers of retrieval networks use other operations,
so that they stay in float32.
"""


def quantize(source: Path, target: Path, photos: Iterable[np.ndarray]) -> None:
    """Writes an int8 version of an ONNX network, with one scale per output channel of each convolution.

    The method is static quantization (Jacob et al. CVPR 2018). The layers after the trunk (pooling, whitening and L2
    normalisation) stay in float32. Dense layers in the trunk stay in float32, too; only ConvNeXt has many of these.

    Args:
        source: path of a float32 .onnx file.
        target: path of the .onnx file to write.
        photos: batches (B, H, W, 3) uint8 of typical photos, from which the ranges of activations are measured.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs: Iterator[dict[str, Any]] = ({INPUT: images.astype("float32")} for images in photos)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.inputs, None)

    merged = target.with_name(f"merged-{target.name}")  # network with batch normalisation folded into convolutions
    quant_pre_process(source, merged, skip_symbolic_shape=True)
    quantize_static(
        merged,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(TYPES),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    merged.unlink()
