"""Static int8 quantization of the convolutions and transformer blocks of an ONNX network, calibrated on photos."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.runtimes.conversion import INPUT

TYPES = ("Conv", "Relu", "MaxPool")
"""Operations that are computed in int8.

Relu and MaxPool are among them because converting to float32 between two convolutions is slower and, before a Relu,
spends half of the quantized range on negative numbers. The pooling layers of retrieval networks use other operations,
so that they stay in float32.
"""

PRODUCTS = ("MatMul", "Gemm")
"""Operations of Dense layers: a product, or one together with the addition of the bias."""

BLOCK_SIDE = 392
"""Height and width in pixels of the middle of a photo on which transformer blocks are calibrated.

ONNX Runtime keeps all tensors whose ranges it measures until a photo is done, and among them the attention matrices of
all blocks, of heads x patches x patches numbers each: the process of a ViT-S/14 grew to 1.5 GB with a photo of
518 x 392 px and to 3.1 GB with 686 x 518 px, and was killed for its memory with photos of 1024 px.
"""

_OF_BLOCK = re.compile(r"/block_\d+")  # a TransformerBlock in the names of nodes


def quantize(source: Path, target: Path, photos: Iterable[np.ndarray]) -> None:
    """Writes an int8 version of an ONNX network, with one scale per output channel of each convolution.

    The method is static quantization (Jacob et al. CVPR 2018). The layers after the trunk (pooling, whitening and L2
    normalisation) stay in float32. The Dense layers of vision transformers' blocks are quantized; attention, layer
    normalisations and Dense layers of other trunks, of which only ConvNeXt has many, stay in float32. A network with
    such blocks is calibrated on the middle of each photo, `BLOCK_SIDE` px at most, so that its memory does not grow
    with the square of the photo's area.

    Args:
        source: path of a float32 .onnx file.
        target: path of the .onnx file to write.
        photos: batches (B, H, W, 3) uint8 of typical photos, from which the ranges of activations are measured.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.inputs: Iterator[dict[str, Any]] = (
                {INPUT: (_middle(images) if dense else images).astype("float32")} for images in photos
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.inputs, None)

    merged = target.with_name(f"merged-{target.name}")  # network with batch normalisation folded into convolutions
    quant_pre_process(source, merged, skip_symbolic_shape=True)
    dense = _dense_layers_of_blocks(merged)
    quantize_static(
        merged,
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*TYPES, *(PRODUCTS if dense else ())],
        nodes_to_exclude=_products_except(merged, dense) if dense else [],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    merged.unlink()


def _middle(images: np.ndarray) -> np.ndarray:
    """The middle of photos (B, H, W, 3), of at most `BLOCK_SIDE` x `BLOCK_SIDE` pixels; smaller sides are kept."""
    top, left = (max(0, side - BLOCK_SIDE) // 2 for side in images.shape[1:3])
    return images[:, top : top + BLOCK_SIDE, left : left + BLOCK_SIDE]


def _dense_layers_of_blocks(path: Path) -> set[str]:
    """The names of the matrix products with constant weights in transformer blocks."""
    import onnx

    graph = onnx.load(path).graph
    matrices = {array.name for array in graph.initializer if len(array.dims) == 2}
    return {
        node.name
        for node in graph.node
        if node.op_type in PRODUCTS and _OF_BLOCK.search(node.name) and node.input[1] in matrices
    }


def _products_except(path: Path, dense: set[str]) -> list[str]:
    import onnx

    nodes = onnx.load(path, load_external_data=False).graph.node
    return [node.name for node in nodes if node.op_type in PRODUCTS and node.name not in dense]
