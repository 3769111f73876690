"""XFeat's network with random weights of the published form, and a photo with many keypoints."""

import numpy as np


def random_tensors(seed=0):
    """A state dict of the published form, with random values."""
    from keras_retrieval.local_features import xfeat

    rng = np.random.default_rng(seed)
    tensors = {}
    for block, layers in xfeat._BLOCKS.items():
        for number, (inputs, outputs, side, _) in enumerate(layers):
            name = f"{block}.{number}.layer"
            kernel = rng.normal(size=(outputs, inputs, side, side)) / np.sqrt(inputs * side * side / 2)
            tensors[f"{name}.0.weight"] = kernel.astype(np.float32)
            tensors[f"{name}.1.running_mean"] = rng.normal(0, 0.1, outputs).astype(np.float32)
            tensors[f"{name}.1.running_var"] = rng.uniform(0.5, 2, outputs).astype(np.float32)
    for inputs, outputs, name in xfeat._LAST.values():
        tensors[f"{name}.weight"] = (rng.normal(size=(outputs, inputs, 1, 1)) / np.sqrt(inputs)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.1, outputs).astype(np.float32)
    return tensors


def patterned_photo(height=100, width=141):
    """A photo of stripes and checks, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    red = 127 + 60 * np.sign(np.sin(x / 7) * np.sin(y / 9)) + 40 * np.sin(x * y / 300)
    green = 127 + 80 * np.sign(np.sin((x + y) / 11))
    blue = 127 + 100 * np.sin(x / 5) * np.cos(y / 6)
    return np.clip(np.stack([red, green, blue], -1), 0, 255).astype(np.uint8)
