"""LighterGlue: LightGlue (Lindenberger et al., ICCV 2023) in the size that was trained for the features of XFeat.

A transformer matches the features of two photos: in each layer, the features of a photo attend to each other, with
rotary encodings of their places, and then to those of the other photo. Features that cannot be matched are dropped
after each layer, so that photos without a common object take a fraction of the time of others.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from .errors import LocalFeatureError
from .xfeat import DIMENSIONS

WIDTH = 96
LAYERS = 6
UNMATCHABLE = 0.05
"""Features whose probability to be matched is at most this are dropped."""
_EPSILON = 1e-5  # of layer normalisation

Linear = tuple[Any, Any]  # a kernel (inputs, outputs), and a bias (outputs,)


class LighterGlue:
    """Matches the features of XFeat in two photos.

    Args:
        tensors: the state dict of the published file: maps names such as "transformers.0.self_attn.Wqkv.weight" to
            arrays.
        prune: whether features that cannot be matched are dropped between layers, as in XFeat's own code.

    Raises:
        LocalFeatureError: a tensor is missing or has another shape.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], prune: bool = True) -> None:
        self._prune = prune
        self._input = _linear(tensors, "input_proj", DIMENSIONS, WIDTH)
        self._places = _constant(_tensor(tensors, "posenc.Wr.weight", (WIDTH // 2, 2)).T)
        self._selves = [_SelfAttention(tensors, f"transformers.{number}.self_attn") for number in range(LAYERS)]
        self._crosses = [_CrossAttention(tensors, f"transformers.{number}.cross_attn") for number in range(LAYERS)]
        assignments = [f"log_assignment.{number}" for number in range(LAYERS)]
        self._matchable = [_linear(tensors, f"{name}.matchability", WIDTH, 1) for name in assignments]
        self._final = _linear(tensors, f"{assignments[-1]}.final_proj", WIDTH, WIDTH)

    def __call__(self, places: Any, rows: Any, other_places: Any, other_rows: Any) -> tuple[Any, Any, Any]:
        """Computes the probabilities that features match.

        Args:
            places: x and y of the features of a photo, (n, 2) float32, see `to_places`.
            rows: their descriptors, (n, 64) float32.
            other_places: the same of the other photo, (m, 2).
            other_rows: their descriptors, (m, 64).

        Returns:
            A tuple of three: the logarithms of the probabilities, (p, q) float32, of the features that were not
            dropped, and their numbers in the first photo, (p,) int32, and in the other, (q,) int32.
        """
        kept = [ops.arange(ops.shape(one)[0], dtype="int32") for one in (rows, other_rows)]
        points = [ops.convert_to_tensor(one, "float32") for one in (places, other_places)]
        turns = [_turn(ops.matmul(one, self._places)) for one in points]
        one, other = (_apply(self._input, ops.convert_to_tensor(some, "float32")) for some in (rows, other_rows))
        for number in range(LAYERS):
            attend = self._selves[number]
            one, other = self._crosses[number](attend(one, turns[0]), attend(other, turns[1]))
            if self._prune and number < LAYERS - 1:
                one, kept[0], turns[0] = self._matchable_of(number, one, kept[0], turns[0])
                other, kept[1], turns[1] = self._matchable_of(number, other, kept[1], turns[1])
        return self._assigned(one, other), kept[0], kept[1]

    def _matchable_of(self, number: int, rows: Any, kept: Any, turn: tuple[Any, Any]) -> tuple[Any, Any, Any]:
        """Drops features that cannot be matched after a layer."""
        (chosen,) = ops.nonzero(ops.sigmoid(_apply(self._matchable[number], rows)[:, 0]) > UNMATCHABLE)
        return ops.take(rows, chosen, 0), ops.take(kept, chosen, 0), tuple(ops.take(some, chosen, 0) for some in turn)

    def _assigned(self, one: Any, other: Any) -> Any:
        scale = WIDTH**-0.25
        similar = ops.matmul(_apply(self._final, one) * scale, ops.transpose(_apply(self._final, other) * scale))
        certain = [ops.log_sigmoid(_apply(self._matchable[-1], some)[:, 0]) for some in (one, other)]
        doubled = 2 * similar - ops.logsumexp(similar, axis=1, keepdims=True)
        return doubled - ops.logsumexp(similar, axis=0, keepdims=True) + certain[0][:, None] + certain[1][None]


class _SelfAttention:
    """The features of a photo attend to each other."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str) -> None:
        kernel = _tensor(tensors, f"{name}.Wqkv.weight", (3 * WIDTH, WIDTH))
        bias = _tensor(tensors, f"{name}.Wqkv.bias", (3 * WIDTH,))
        # Pairs of numbers are turned together: the first of all pairs come first, then the second.
        halves = np.concatenate([np.arange(0, WIDTH, 2), np.arange(1, WIDTH, 2)])
        orders = [3 * halves, 3 * halves + 1, 3 * np.arange(WIDTH) + 2]
        self._query, self._key, self._value = ((_constant(kernel[order].T), _constant(bias[order])) for order in orders)
        self._out = _linear(tensors, f"{name}.out_proj", WIDTH, WIDTH)
        self._update = _Update(tensors, f"{name}.ffn")

    def __call__(self, rows: Any, turn: tuple[Any, Any]) -> Any:
        query, key = (_turned(_apply(one, rows), turn) for one in (self._query, self._key))
        weights = ops.softmax(ops.matmul(query * WIDTH**-0.5, ops.transpose(key)), axis=-1)
        return self._update(rows, _apply(self._out, ops.matmul(weights, _apply(self._value, rows))))


class _CrossAttention:
    """The features of two photos attend to those of the other."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str) -> None:
        self._query, self._value, self._out = (
            _linear(tensors, f"{name}.{part}", WIDTH, WIDTH) for part in ("to_qk", "to_v", "to_out")
        )
        self._update = _Update(tensors, f"{name}.ffn")

    def __call__(self, one: Any, other: Any) -> tuple[Any, Any]:
        query, key = (_apply(self._query, rows) * WIDTH**-0.25 for rows in (one, other))
        similar = ops.matmul(query, ops.transpose(key))
        to_other = ops.matmul(ops.softmax(similar, axis=-1), _apply(self._value, other))
        to_one = ops.matmul(ops.softmax(ops.transpose(similar), axis=-1), _apply(self._value, one))
        return self._update(one, _apply(self._out, to_other)), self._update(other, _apply(self._out, to_one))


class _Update:
    """Adds what a feature learns from others to it, by a network of two layers."""

    def __init__(self, tensors: Mapping[str, np.ndarray], name: str) -> None:
        self._first = _linear(tensors, f"{name}.0", 2 * WIDTH, 2 * WIDTH)
        self._scale, self._shift = (
            _constant(_tensor(tensors, f"{name}.1.{part}", (2 * WIDTH,))) for part in ("weight", "bias")
        )
        self._last = _linear(tensors, f"{name}.3", 2 * WIDTH, WIDTH)

    def __call__(self, rows: Any, message: Any) -> Any:
        hidden = _apply(self._first, ops.concatenate([rows, message], axis=-1))
        hidden = hidden - ops.mean(hidden, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(hidden), axis=-1, keepdims=True)
        hidden = hidden * ops.rsqrt(variance + _EPSILON) * self._scale + self._shift
        return rows + _apply(self._last, ops.gelu(hidden, approximate=False))


def to_places(keypoints: np.ndarray, width: float, height: float) -> np.ndarray:
    """Converts keypoints to the places that LightGlue encodes: from -1 to 1 along the longer side of the photo.

    Args:
        keypoints: x and y in pixels, (n, 2).
        width: width of the photo in pixels.
        height: height of the photo in pixels.

    Returns:
        (n, 2) float32; the centre of the photo is at 0.
    """
    sides = np.array([width, height], np.float32)
    return ((keypoints - sides / 2) / (sides.max() / 2)).astype(np.float32)


def _turn(angles: Any) -> tuple[Any, Any]:
    return ops.cos(angles), ops.sin(angles)


def _turned(rows: Any, turn: tuple[Any, Any]) -> Any:
    """Turns pairs of numbers by angles (rotary encoding); the halves of `rows` have one number of each pair."""
    cosines, sines = turn
    first, second = rows[:, : WIDTH // 2], rows[:, WIDTH // 2 :]
    return ops.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _apply(linear: Linear, rows: Any) -> Any:
    kernel, bias = linear
    return ops.matmul(rows, kernel) + bias


def _linear(tensors: Mapping[str, np.ndarray], name: str, inputs: int, outputs: int) -> Linear:
    kernel = _tensor(tensors, f"{name}.weight", (outputs, inputs))
    return _constant(kernel.T), _constant(_tensor(tensors, f"{name}.bias", (outputs,)))


def _constant(array: np.ndarray) -> Any:
    return ops.convert_to_tensor(np.ascontiguousarray(array, np.float32))


def _tensor(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in tensors:
        raise LocalFeatureError(f"the weights are not LighterGlue's: the tensor {name} is missing")
    if tensors[name].shape != shape:
        raise LocalFeatureError(
            f"the weights are not LighterGlue's: the tensor {name} has the shape {tensors[name].shape} in place of "
            f"{shape}"
        )
    return tensors[name]
