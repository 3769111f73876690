"""A ConvNeXt as DINOv3 publishes it, in NumPy: state dicts with made weights, and the descriptor of a photo."""

import math
import re

import numpy as np

DEPTHS = (3, 3, 9, 3)
WIDTHS = (96, 192, 384, 768)


def made_state(seed=0):
    """Made weights under the names of DINOv3's code, which has the last norm twice."""
    rng, state = np.random.default_rng(seed), {}

    def add(name, *shape):
        fan = math.prod(shape[1:])
        state[f"{name}.weight"] = (rng.normal(size=shape) / math.sqrt(fan)).astype("f4")
        state[f"{name}.bias"] = (0.1 * rng.normal(size=shape[0])).astype("f4")

    def norm(name, width):
        state[f"{name}.weight"] = rng.uniform(0.5, 1.5, width).astype("f4")
        state[f"{name}.bias"] = (0.1 * rng.normal(size=width)).astype("f4")

    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        inputs = WIDTHS[stage - 1] if stage else 3
        add(f"downsample_layers.{stage}.{1 if stage else 0}", width, inputs, *((2, 2) if stage else (4, 4)))
        norm(f"downsample_layers.{stage}.{0 if stage else 1}", inputs if stage else width)
        for block in range(depth):
            place = f"stages.{stage}.{block}"
            add(f"{place}.dwconv", width, 1, 7, 7)
            norm(f"{place}.norm", width)
            add(f"{place}.pwconv1", 4 * width, width)
            add(f"{place}.pwconv2", width, 4 * width)
            state[f"{place}.gamma"] = rng.uniform(0.2, 0.6, width).astype("f4")
    norm("norm", WIDTHS[-1])
    return state | {f"norms.3.{part}": state[f"norm.{part}"] for part in ("weight", "bias")}


def hugging_face(state):
    """The same weights under the names of Hugging Face's DINOv3ConvNextModel."""
    parts = {"dwconv": "depthwise_conv", "norm": "layer_norm", "pwconv1": "pointwise_conv1"}
    parts |= {"pwconv2": "pointwise_conv2", "gamma": "gamma"}

    def renamed(name):
        name = re.sub(r"^downsample_layers\.(\d)\.", r"stages.\1.downsample_layers.", name)
        inside = re.match(r"stages\.(\d)\.(\d+)\.(\w+)(.*)", name)
        if inside:
            return f"stages.{inside[1]}.layers.{inside[2]}.{parts[inside[3]]}{inside[4]}"
        return re.sub(r"^norm\.", "layer_norm.", name)

    return {renamed(name): array for name, array in state.items() if not name.startswith("norms.")}


def descriptor(state, photo):
    """The normalised mean of a photo (H, W, 3) of 0..255, unit length."""
    x = (photo / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for stage, depth in enumerate(DEPTHS):
        place = f"downsample_layers.{stage}"
        x = _patches(state, f"{place}.1", 2, _norm(state, f"{place}.0", x)) if stage else x
        x = x if stage else _norm(state, f"{place}.1", _patches(state, f"{place}.0", 4, x))
        for block in range(depth):
            x = x + _block(state, f"stages.{stage}.{block}", x)
    y = _norm(state, "norm", x.mean((0, 1)))
    return y / np.linalg.norm(y)


def _norm(state, name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def _patches(state, name, side, x):
    height, width = (length // side for length in x.shape[:2])
    cells = x[: height * side, : width * side].reshape(height, side, width, side, -1)
    return np.einsum("hiwjc,ocij->hwo", cells, state[f"{name}.weight"]) + state[f"{name}.bias"]


def _block(state, place, x):
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    kernel = state[f"{place}.dwconv.weight"][:, 0]
    height, width = x.shape[:2]
    y = sum(padded[i : i + height, j : j + width] * kernel[:, i, j] for i in range(7) for j in range(7))
    y = _norm(state, f"{place}.norm", y + state[f"{place}.dwconv.bias"])
    y = y @ state[f"{place}.pwconv1.weight"].T + state[f"{place}.pwconv1.bias"]
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return (y @ state[f"{place}.pwconv2.weight"].T + state[f"{place}.pwconv2.bias"]) * state[f"{place}.gamma"]
