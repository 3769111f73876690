"""Names of the poolings' tensors in the files of the networks that were published with them."""

import re
from typing import Any

import keras

from .. import layers
from .torch_names import Tensor

_PARTS = (
    (re.compile(r"_?qkv_kernel$"), "in_proj_weight"),
    (re.compile(r"_?qkv_bias$"), "in_proj_bias"),
    (re.compile(r"_?(kernel|scale)$"), "weight"),
    (re.compile(r"_?(bias|offset)$"), "bias"),
)
_SALAD = {
    "token1": "token_features.0",
    "token2": "token_features.2",
    "feature1": "cluster_features.0",
    "feature2": "cluster_features.3",
    "score1": "score.0",
    "score2": "score.3",
    "dust_bin": "dust_bin",
}
_BOQ = {
    "attention_out": "encoder.self_attn.out_proj",
    "attention": "encoder.self_attn",
    "norm1": "encoder.norm1",
    "up": "encoder.linear1",
    "down": "encoder.linear2",
    "norm2": "encoder.norm2",
    "queries": "queries",
    "among_out": "self_attn.out_proj",
    "among": "self_attn",
    "norm_queries": "norm_q",
    "across_out": "cross_attn.out_proj",
    "across": "cross_attn",
    "norm_out": "norm_out",
}
_BOQ_ENDS = {"": "proj_c", "norm": "norm_input", "mixing": "fc"}
_MIXVPR = {"": "mix.0", "up": "mix.1", "down": "mix.3"}


def pooling_tensors(layer: keras.layers.Layer) -> list[tuple[Any, Tensor]]:
    """Pairs the weights of a built pooling with their tensors in the files of torch.

    Args:
        layer: a pooling from `build`.

    Returns:
        Pairs of a weight and its tensor, whose name is without what the network puts in front; none for a pooling that
        no published file of torch has.
    """
    place = _place_of(layer)
    if place is None:
        return []
    found = []
    for weight in layer.weights:
        shape = tuple(weight.shape)
        key = place(weight.name)
        axes = tuple(range(len(shape)))
        stored: tuple[tuple[int, ...], ...] = (shape,)
        if len(shape) == 4:
            axes, stored = (2, 3, 1, 0), ((shape[3], shape[2], *shape[:2]),)
        elif weight.name.endswith("kernel"):
            axes, stored = (1, 0), (shape[::-1], (*shape[::-1], 1, 1))
        found.append((weight, Tensor(key, stored, axes, shape)))
    return found


def _place_of(layer: keras.layers.Layer) -> Any:
    if isinstance(layer, layers.SALAD):
        return _salad if layer.projection is None else _megaloc
    kinds = {layers.BoQ: _boq, layers.MixVPR: _mixvpr, layers.CosPlace: _cosplace, layers.NetVLAD: _netvlad}
    kinds[layers.SuperGlobal] = _superglobal
    return next((place for kind, place in kinds.items() if isinstance(layer, kind)), None)


def _split(name: str) -> tuple[str, str]:
    """token1_kernel -> token1, weight; dust_bin -> dust_bin, ""."""
    for pattern, part in _PARTS:
        found = pattern.search(name)
        if found:
            return name[: found.start()], part
    return name, ""


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _salad(name: str) -> str:
    layer, part = _split(name)
    return _joined(_SALAD[layer], part)


def _megaloc(name: str) -> str:
    layer, part = _split(name)
    return _joined("linear", part) if layer == "projection" else f"agg.{_salad(name)}"


def _boq(name: str) -> str:
    layer, part = _split(name)
    block = re.match(r"block(\d+)_(.+)", layer)
    return _joined(f"boqs.{block[1]}", _BOQ[block[2]], part) if block else _joined(_BOQ_ENDS[layer], part)


def _mixvpr(name: str) -> str:
    layer, part = _split(name)
    mixer = re.match(r"mixer(\d+)_?(.*)", layer)
    return _joined(f"mix.{mixer[1]}", _MIXVPR[mixer[2]], part) if mixer else f"{layer[:-1]}_proj.{part}"


def _cosplace(name: str) -> str:
    return "aggregation.1.p" if name == "p" else f"aggregation.3.{_split(name)[1]}"


def _superglobal(name: str) -> str:
    return f"head.fc.{_split(name)[1]}"


def _netvlad(name: str) -> str:
    return {"kernel": "pool.conv.weight", "bias": "pool.conv.bias", "centroids": "pool.centroids"}[name]
