"""Larger sizes of published networks, against a computation in NumPy that shares no code with the package.

    python -m bench.larger_sizes [--network dinov2vitl14 ..]

A state dict with made weights, under the published names, is written as .safetensors, read as `convert` reads it, and
two small photos of other proportions than the file's positions are described. The NumPy side follows the published
formulas in float64: DINOv2's bicubic positions, DINOv3's rotary ones, SALAD with Sinkhorn's iterations, MegaLoc's
projection. The table lists the largest difference of a number of the unit descriptors, and the cosine between the
differences of the two photos' descriptors.
"""

import argparse
import gc
import math
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from keras_retrieval.pipelines.networks.published_file import read_published

from bench.record import recorded

State = dict[str, np.ndarray]
# name -> width, depth, hidden, gated, patch, aggregator
SIZES: dict[str, tuple[int, int, int, bool, int, str]] = {
    "dinov2vitb14": (768, 12, 3072, False, 14, "cls"),
    "dinov2vitl14": (1024, 24, 4096, False, 14, "cls"),
    "dinov2vitg14": (1536, 40, 4096, True, 14, "cls"),
    "dinov3vits16plus": (384, 12, 1536, True, 16, "cls"),
    "dinov3vitb16": (768, 12, 3072, False, 16, "cls"),
    "dinov3vitl16": (1024, 24, 4096, False, 16, "cls"),
    "dinov3vitl16plus": (1024, 24, 4096, True, 16, "cls"),
    "dinov3vith16plus": (1280, 32, 5120, True, 16, "cls"),
    "salad": (768, 12, 3072, False, 14, "salad"),
    "megaloc": (768, 12, 3072, False, 14, "megaloc"),
}
DEFAULT = ("dinov2vitb14", "dinov2vitl14", "dinov3vits16plus", "dinov3vitb16", "dinov3vitl16", "salad", "megaloc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=SIZES, default=list(DEFAULT), help="networks to compare")
    names = parser.parse_args().network
    with recorded("larger-sizes") as add, tempfile.TemporaryDirectory() as folder:
        for name in names:
            state = made(name)
            path = Path(folder) / "network.safetensors"
            safetensors.numpy.save_file(state, path)
            model = read_published(path)
            # SALAD needs more than 64 patches.
            sides = (140, 154) if SIZES[name][-1] != "cls" else (6 * SIZES[name][4], 4 * SIZES[name][4])
            photos = np.random.default_rng(1).integers(0, 256, (2, *sides, 3)).astype("float32")
            found = np.asarray(model(photos), "float64")
            expected = np.stack([descriptor(name, state, photo) for photo in photos])
            one, other = found[1] - found[0], expected[1] - expected[0]
            cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
            add(
                {
                    "network": name,
                    "million weights": round(model.count_params() / 1e6, 1),
                    "largest difference": f"{np.abs(found - expected).max():.1e}",
                    "cosine of differences": f"{cosine:.7f}",
                }
            )
            del model, state
            gc.collect()


def made(name: str) -> State:
    """A state dict with made weights under the published names."""
    width, depth, hidden, gated, patch, aggregator = SIZES[name]
    second = patch == 14
    start = "" if aggregator == "cls" else "backbone." if aggregator == "megaloc" else "backbone.model."
    state: State = {}

    def add(key: str, *shape: int, low: float = 0.0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if low:
            state[key] = rng.uniform(low, low + 0.5, shape).astype("f4")
            return
        fan = math.prod(shape[1:]) if len(shape) in (2, 4) else 400
        state[key] = (rng.standard_normal(shape, dtype="f4") * np.float32(scale / math.sqrt(fan))).astype("f4")

    add(f"{start}cls_token", 1, 1, width, scale=6)
    add(f"{start}patch_embed.proj.weight", width, 3, patch, patch)
    add(f"{start}patch_embed.proj.bias", width)
    if second:
        add(f"{start}pos_embed", 1, 1370, width, scale=6)
    else:
        add(f"{start}storage_tokens", 1, 4, width, scale=6)
    for block in range(depth):
        place = f"{start}blocks.{block}."
        for part in ("norm1", "norm2"):
            add(f"{place}{part}.weight", width, low=0.5)
            add(f"{place}{part}.bias", width)
        dense = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        if not gated:
            dense |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
        elif second:
            dense |= {"mlp.w12": (2 * hidden, width), "mlp.w3": (width, hidden)}
        else:
            dense |= {"mlp.w1": (hidden, width), "mlp.w2": (hidden, width), "mlp.w3": (width, hidden)}
        for part, shape in dense.items():
            add(f"{place}{part}.weight", *shape)
            add(f"{place}{part}.bias", shape[0])
        if not second:
            state[f"{place}attn.qkv.bias_mask"] = np.repeat(np.array([1, 0, 1], "f4"), width)
        for part in ("ls1", "ls2"):
            add(f"{place}{part}.gamma", width, low=0.3)
    add(f"{start}norm.weight", width, low=0.5)
    add(f"{start}norm.bias", width)
    if aggregator != "cls":
        agg = "aggregator.agg." if aggregator == "megaloc" else "aggregator."
        features = 256 if aggregator == "megaloc" else 128
        state[f"{agg}dust_bin"] = np.array(1.0, "f4")
        layers = {"token_features.0": (512, width), "token_features.2": (256, 512)}
        state_shapes = {"cluster_features": features, "score": 64}
        for part, shape in layers.items():
            add(f"{agg}{part}.weight", *shape)
            add(f"{agg}{part}.bias", shape[0])
        for part, outputs in state_shapes.items():
            for number, rows, columns in (("0", 512, width), ("3", outputs, 512)):
                add(f"{agg}{part}.{number}.weight", rows, columns, 1, 1)
                add(f"{agg}{part}.{number}.bias", rows)
        if aggregator == "megaloc":
            add("aggregator.linear.weight", 8448, 256 + 256 * 64)
            add("aggregator.linear.bias", 8448)
    return state


def descriptor(name: str, state: State, photo: np.ndarray) -> np.ndarray:
    """The descriptor of a photo (H, W, 3) of 0..255, in float64."""
    width, depth, _, _, patch, aggregator = SIZES[name]
    start = "" if aggregator == "cls" else "backbone." if aggregator == "megaloc" else "backbone.model."
    w = {key.removeprefix(start): array.astype("float64") for key, array in state.items() if key.startswith(start)}
    x = (photo.astype("float64") / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    rows, columns = (side // patch for side in x.shape[:2])
    cells = x.reshape(rows, patch, columns, patch, 3).transpose(0, 2, 4, 1, 3).reshape(rows * columns, -1)
    patches = cells @ w["patch_embed.proj.weight"].reshape(width, -1).T + w["patch_embed.proj.bias"]
    if patch == 14:
        grid = w["pos_embed"][0, 1:].reshape(37, 37, width)
        places = np.einsum("ai,ijd,bj->abd", bicubic(rows), grid, bicubic(columns)).reshape(-1, width)
        t = np.concatenate([w["cls_token"][0] + w["pos_embed"][0, :1], patches + places])
        turn = None
    else:
        t = np.concatenate([w["cls_token"][0], w["storage_tokens"][0], patches])
        turn = rotary(rows, columns)
    epsilon = 1e-6 if patch == 14 else 1e-5
    for block in range(depth):
        t = encoder(w, f"blocks.{block}.", t, width // 64, turn, epsilon)
    t = norm(w, "norm", t, epsilon)
    if aggregator == "cls":
        return unit(t[0])
    agg = "aggregator.agg." if aggregator == "megaloc" else "aggregator."
    a = {key.removeprefix(agg): array.astype("float64") for key, array in state.items() if key.startswith(agg)}
    y = salad(a, t[1:], t[0])
    if aggregator == "megaloc":
        y = unit(state["aggregator.linear.weight"] @ y + state["aggregator.linear.bias"])
    return y


def bicubic(length: int) -> np.ndarray:
    """DINOv2's resize of 37 positions, (length, 37): scale (length + 0.1) / 37, a = -0.75, borders repeated."""
    matrix = np.zeros((length, 37))
    for i in range(length):
        at = (i + 0.5) * 37 / (length + 0.1) - 0.5
        for j in range(math.floor(at) - 1, math.floor(at) + 3):
            d = abs(at - j)
            near = 1.25 * d**3 - 2.25 * d**2 + 1
            far = -0.75 * d**3 + 3.75 * d**2 - 6 * d + 3
            matrix[i, min(max(j, 0), 36)] += near if d <= 1 else far if d < 2 else 0
    return matrix


def rotary(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """DINOv3's cosines and sines, each (rows * columns, 64)."""
    periods = 100 ** (np.arange(16) / 16)
    y, x = np.meshgrid(
        2 * (np.arange(rows) + 0.5) / rows - 1, 2 * (np.arange(columns) + 0.5) / columns - 1, indexing="ij"
    )
    angles = 2 * np.pi * np.stack([y.ravel(), x.ravel()], 1)[:, :, None] / periods
    angles = np.tile(angles.reshape(len(angles), 32), 2)
    return np.cos(angles), np.sin(angles)


def encoder(w: State, place: str, t: np.ndarray, heads: int, turn: Any, epsilon: float) -> np.ndarray:
    bias = w[f"{place}attn.qkv.bias"] * w.get(f"{place}attn.qkv.bias_mask", 1)
    qkv = norm(w, f"{place}norm1", t, epsilon) @ w[f"{place}attn.qkv.weight"].T + bias
    q, k, v = qkv.reshape(len(t), 3, heads, 64).transpose(1, 2, 0, 3)
    if turn is not None:
        q, k = (np.concatenate([x[:, :5], turned(x[:, 5:], *turn)], 1) for x in (q, k))
    scores = np.exp(q @ k.transpose(0, 2, 1) / 8)
    y = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(t), -1)
    t = t + w[f"{place}ls1.gamma"] * dense(w, f"{place}attn.proj", y)
    y = norm(w, f"{place}norm2", t, epsilon)
    if f"{place}mlp.w12.weight" in w:
        gate, up = np.split(dense(w, f"{place}mlp.w12", y), 2, -1)
    elif f"{place}mlp.w1.weight" in w:
        gate, up = dense(w, f"{place}mlp.w1", y), dense(w, f"{place}mlp.w2", y)
    else:
        y = dense(w, f"{place}mlp.fc1", y)
        y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
        return t + w[f"{place}ls2.gamma"] * dense(w, f"{place}mlp.fc2", y)
    return t + w[f"{place}ls2.gamma"] * dense(w, f"{place}mlp.w3", gate / (1 + np.exp(-gate)) * up)


def turned(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    one, two = np.split(x, 2, -1)
    return x * cosine + np.concatenate([-two, one], -1) * sine


def salad(a: State, x: np.ndarray, token: np.ndarray) -> np.ndarray:
    """SALAD of patch tokens (N, C) and the class token (C,)."""

    def two(part: str, y: np.ndarray, last: str) -> np.ndarray:
        for number in ("0", last):
            weight = a[f"{part}.{number}.weight"]
            y = y @ weight.reshape(len(weight), -1).T + a[f"{part}.{number}.bias"]
            y = np.maximum(y, 0) if number == "0" else y
        return y

    features, scores = two("cluster_features", x, "3"), two("score", x, "3")
    n, m = scores.shape
    scores = np.concatenate([scores, np.full((n, 1), a["dust_bin"])], 1)
    columns = np.full(m + 1, -math.log(n + m))
    columns[-1] += math.log(n - m)
    u, v = np.zeros(m + 1), np.zeros(n)
    for _ in range(3):
        u = columns - logsumexp(scores + v[:, None], 0)
        v = -math.log(n + m) - logsumexp(scores + u[None], 1)
    shares = np.exp(scores + u[None] + v[:, None] + math.log(n + m))[:, :m]
    clusters = features.T @ shares
    clusters /= np.linalg.norm(clusters, axis=0)
    return unit(np.concatenate([unit(two("token_features", token, "2")), clusters.ravel()]))


def logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    most = x.max(axis, keepdims=True)
    return np.log(np.exp(x - most).sum(axis)) + most.squeeze(axis)


def dense(w: State, name: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w: State, name: str, x: np.ndarray, epsilon: float) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


if __name__ == "__main__":
    main()
