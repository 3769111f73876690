"""Small vision transformers with a pooling, random."""

from keras_retrieval import layers
from keras_retrieval.networks.build import POOLINGS, assemble, for_pooling
from keras_retrieval.networks.vision_transformer import vision_transformer


def small_transformer(shape, name):
    """A network of a `transformer_shapes.Shape` and the name of a pooling."""
    trunk = for_pooling(vision_transformer(shape, "transformer"), name)
    options = {"salad": {"clusters": 3, "features": 5}, "megaloc": {"clusters": 3, "features": 5, "projection": 9}}
    pooling = POOLINGS[name](name="pooling", dtype="float32", **options.get(name, {}))
    front = [layers.PixelNormalization.of("torch", name="normalization")]
    return assemble(f"transformer_{name}", front, trunk, pooling)
