"""Trunks that are vision transformers: DINOv2's and DINOv3's.

They take photos of any size, which are brought to multiples of the patch size by `layers.FitToPatches`, and masks of
padded photos: attention leaves out the patches of the padding, and positions are those of the photo without it.
"""

import keras

from .. import layers
from .transformer_shapes import Shape


def vision_transformer(shape: Shape, name: str) -> keras.Model:
    """Builds a vision transformer.

    Args:
        shape: its shape.
        name: name of the model.

    Returns:
        A model with random weights from normalised pixels (B, H, W, 3) to the patch tokens after the last layer
        normalisation, (B, round(H / patch), round(W / patch), D). Its layers are named "fit", "patches", "tokens",
        "block_0" .., "norm" and "map".
    """
    epsilon = 1e-6 if shape.grid else 1e-5
    heads = shape.heads or shape.width // 64
    inputs = keras.Input((None, None, 3))
    x = layers.FitToPatches(shape.patch, name="fit")(inputs)
    patches = layers.PatchEmbedding(shape.width, shape.patch, name="patches")(x)
    x = layers.TokenSequence(shape.grid, shape.registers, shape.interpolation, name="tokens")(patches)
    rotary = None
    if not shape.grid:
        rotary = layers.RotaryPositions(shape.width // heads, name="rotary", dtype="float32")(patches)
    for number in range(shape.depth):
        block = layers.TransformerBlock(heads, shape.hidden, shape.gated, epsilon, name=f"block_{number}")
        x = block(x if rotary is None else [x, rotary])
    x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    return keras.Model(inputs, layers.TokenMap(name="map")([x, patches]), name=name)


def read_out(trunk: keras.Model, *, class_token: bool = False, normalized: bool = True) -> keras.Model:
    """Makes a trunk with the same layers and another feature map.

    Args:
        trunk: a model from `vision_transformer`.
        class_token: whether the class token is appended to each cell, see `layers.TokenMap`.
        normalized: whether the tokens are taken after the last layer normalisation.

    Returns:
        The model, which shares its weights with `trunk`.
    """
    tokens, patches = trunk.get_layer("norm"), trunk.get_layer("patches")
    x = tokens.output if normalized else tokens.input
    return keras.Model(trunk.input, layers.TokenMap(class_token, name="map")([x, patches.output]), name=trunk.name)


def takes_mask(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer before the pooling, such as the trunk, takes a mask of pixels (B, H, W)."""
    if isinstance(layer, layers.FixedSize):
        return True
    return isinstance(layer, keras.Model) and any(isinstance(inner, layers.FitToPatches) for inner in layer.layers)
