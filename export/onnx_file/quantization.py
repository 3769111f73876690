"""Static int8 quantisation of an ONNX network: its convolutions, calibrated on photos."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .conversion import INPUT

TYPES = ("Conv", "Relu", "MaxPool")
"""What is computed in int8. Relu and MaxPool of themselves need not be, but float32 between them would be slower and,
before a Relu, a range of which the half is cut off. The reductions of retrieval's poolings are other operations."""


def quantize(source: Path, target: Path, photos: Iterable[np.ndarray]) -> None:
    """Writes an int8 version of a network (Jacob et al. CVPR 2018), each channel of a kernel with its own scale.

    What stands behind the trunk stays float32: pooling, whitening and L2; so do a trunk's dense layers, of which
    only ConvNeXt has many.

    Args:
        source: a float32 .onnx file.
        target: the .onnx file to write.
        photos: (B, H, W, 3) uint8, of the kind that will be described: ranges of activations are taken from them.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs: Iterator[dict[str, Any]] = ({INPUT: images.astype("float32")} for images in photos)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.inputs, None)

    merged = target.with_name(f"merged-{target.name}")  # batch normalisation inside the convolutions before it
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
