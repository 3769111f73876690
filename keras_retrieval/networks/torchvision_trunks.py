"""Trunks that keras.applications does not have: AlexNet and torchvision's ResNets.

Their padding is explicit and symmetric, as the published weights expect. Keras' padding "same" would be asymmetric in
layers with a stride.
"""

from typing import Any

import keras
from keras import layers

from ..layers.relup import ReLUP


def alexnet() -> keras.Model:
    """Builds the convolutional layers of torchvision's AlexNet (Krizhevsky 2014), without the last max-pooling.

    Returns:
        A model with random weights (B, H, W, 3) -> (B, h, w, 256), where h and w are about H/16 and W/16. Its
        convolutions are named conv1 .. conv5.
    """
    x = inputs = layers.Input((None, None, 3))
    rows = [
        (64, 11, 4, 2, True),
        (192, 5, 1, 2, True),
        (384, 3, 1, 1, False),
        (256, 3, 1, 1, False),
        (256, 3, 1, 1, False),
    ]
    for number, (filters, kernel, stride, padding, pool) in enumerate(rows, start=1):
        x = layers.ZeroPadding2D(padding)(x)
        x = layers.Conv2D(filters, kernel, stride, activation="relu", name=f"conv{number}")(x)
        if pool:
            x = layers.MaxPooling2D(3, 2)(x)
    return keras.Model(inputs, x, name="alexnet")


def torch_resnet(blocks: tuple[int, ...], name: str, basic: bool = False, floor: float = 0.0) -> keras.Model:
    """Builds a ResNet as in torchvision, with the stride of a bottleneck block in its 3 x 3 convolution.

    Args:
        blocks: the number of blocks in each stage, such as (3, 4, 6, 3) for ResNet-50; three numbers leave out the
            last stage.
        name: name of the model.
        basic: whether the blocks are those of ResNet-18 and 34, with two convolutions of 3 x 3.
        floor: smallest value of the output of each block of the first three stages, and of all rectifiers of the first
            stage, which SuperGlobal raises above 0.

    Returns:
        A model with random weights (B, H, W, 3) -> (B, h, w, C), where h and w are about H/32 and W/32 and C is 2048,
        or 512 with `basic`; about H/16 and W/16 and half as many channels without the last stage. Its layers have
        torchvision's names with "_" instead of dots.
    """
    inputs = layers.Input((None, None, 3))
    x = _convolution(inputs, 64, 7, 2, "conv1", "bn1")
    x = layers.ReLU()(x)
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            make = _basic if basic else _bottleneck
            shortcut = block == 0 and not (basic and stage == 1)
            floors = (floor if stage == 1 else 0.0, floor if stage < 4 else 0.0)
            x = make(x, 32 * 2**stage, stride, f"layer{stage}_{block}", shortcut, floors)
    return keras.Model(inputs, x, name=name)


def _rectifier(floor: float, **options: Any) -> keras.layers.Layer:
    return ReLUP(floor, **options) if floor else layers.ReLU(**options)


def _basic(x: Any, filters: int, stride: int, name: str, shortcut: bool, floors: tuple[float, float]) -> Any:
    y = _rectifier(floors[0])(_convolution(x, filters, 3, stride, f"{name}_conv1", f"{name}_bn1"))
    y = _convolution(y, filters, 3, 1, f"{name}_conv2", f"{name}_bn2")
    if shortcut:
        x = _convolution(x, filters, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1")
    return _rectifier(floors[1], name=f"{name}_out")(layers.Add()([x, y]))


def _bottleneck(x: Any, filters: int, stride: int, name: str, shortcut: bool, floors: tuple[float, float]) -> Any:
    y = _rectifier(floors[0])(_convolution(x, filters, 1, 1, f"{name}_conv1", f"{name}_bn1"))
    y = _rectifier(floors[0])(_convolution(y, filters, 3, stride, f"{name}_conv2", f"{name}_bn2"))
    y = _convolution(y, 4 * filters, 1, 1, f"{name}_conv3", f"{name}_bn3")
    if shortcut:
        x = _convolution(x, 4 * filters, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1")
    return _rectifier(floors[1], name=f"{name}_out")(layers.Add()([x, y]))


def _convolution(x: Any, filters: int, kernel: int, stride: int, name: str, normalization: str) -> Any:
    if kernel > 1:
        x = layers.ZeroPadding2D(kernel // 2)(x)
    x = layers.Conv2D(filters, kernel, stride, use_bias=False, name=name)(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=normalization)(x)
