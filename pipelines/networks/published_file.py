"""Reads a published network of any family from its file."""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.inert_files.errors import StoredWeightsError
from keras_retrieval.inert_files.torch_file import read_torch
from keras_retrieval.inert_files.weights_file import StoredWeights, read_weights

from . import cirtorch, dirtorch, matconvnet, published
from .errors import ConversionError

Whitening = tuple[np.ndarray, np.ndarray]
"""The shift (D,) and the projection (d, D) of a whitening."""


def read_published(network: Path, lw: str | None = None, lw_scales: str = "ss", dim: int | None = None) -> Any:
    """Builds the published network that a file contains; its family is recognised by its tensors.

    Args:
        network: a file of torch or .safetensors, or a .mat file of NetVLAD.
        lw: the name of a whitening in a file of cirtorch or dirtorch that is added; None for none.
        lw_scales: which whitening of a file of cirtorch: "ss" or "ms".
        dim: dimensions that the whitening keeps; None for all.

    Returns:
        A keras.Model like those that `keras_retrieval.build` returns.

    Raises:
        ConversionError: the file contains no network or whitening that is supported.
        ArgumentError: an argument is out of range.
        TorchFileError: a file of cirtorch is damaged, or contains something other than data.
        MissingExtraError: SciPy is not installed, which reads .mat files.
        OSError: the file cannot be read.
    """
    if lw is not None and network.suffix == ".mat":
        raise ConversionError("--lw is for networks of cirtorch; a NetVLAD file has its whitening inside")
    model, whitening_in = _read(network, lw_scales, dim)
    if lw is None:
        return model
    if whitening_in is None:
        raise ConversionError("--lw is for networks of cirtorch and dirtorch, whose files contain whitenings")
    return _with_whitening(model, whitening_in(lw), dim)


def read_published_whitened(network: Path, whitenings: Sequence[str]) -> Any:
    """Builds the published network that a file contains, with the first of several whitenings that the file has.

    Args:
        network: a file, as for `read_published`.
        whitenings: names of whitenings, the preferred one first. Without any of them the network has no whitening,
            except for a .mat file of NetVLAD, whose own it has.

    Returns:
        A keras.Model like those that `keras_retrieval.build` returns.

    Raises:
        RetrievalError: as for `read_published`.
    """
    model, whitening_in = _read(network, "ss", None)
    if whitening_in is None:
        return model
    for name in whitenings:
        with contextlib.suppress(ConversionError):  # the file has no such whitening
            return _with_whitening(model, whitening_in(name), None)
    return model


def _read(network: Path, lw_scales: str, dim: int | None) -> tuple[Any, Callable[[str], Whitening] | None]:
    """The network of a file, and the function that finds a whitening in the file; None where files have none."""
    if network.suffix == ".mat":
        return matconvnet.to_keras(matconvnet.read_matlab(network), dim), None
    stored, problem = _stored(network)
    if stored is not None and any(name.endswith("adpool.p") for name in stored.tensors):
        checkpoint = stored.tensors if network.suffix == ".safetensors" else read_torch(network, objects=True)
        trunk = published.convolutional({name: array.shape for name, array in stored.tensors.items()})
        return dirtorch.to_keras(checkpoint, trunk, network), partial(dirtorch.whitening_in, checkpoint)
    found = None if stored is None else published.to_keras(stored, network)
    if found is not None:
        return found, None
    if problem:
        raise ConversionError(problem)
    checkpoint = read_torch(network)
    return cirtorch.to_keras(checkpoint), partial(cirtorch.whitening_in, checkpoint, scales=lw_scales)


def _with_whitening(model: Any, whitening: Whitening, dim: int | None) -> Any:
    from keras_retrieval.networks.regional import with_whitening

    return with_whitening(model, *whitening, dim)


def _stored(network: Path) -> tuple[StoredWeights | None, str]:
    """The weights of a file, and what to say if no family recognises it and it is not a file of torch."""
    try:
        stored = read_weights(network)
    except StoredWeightsError as error:
        return None, str(error) if network.suffix == ".safetensors" else ""  # cirtorch's reader explains the others
    if network.suffix != ".safetensors" and (not stored.tensors or any(_of_cirtorch(name) for name in stored.tensors)):
        return stored, ""
    from keras_retrieval.networks.looks_like import looks_like

    kind = looks_like({name: array.shape for name, array in stored.tensors.items()})
    if not kind:
        return stored, "its tensors are those of no network that is recognised: see build --weights"
    return stored, f"it looks like {kind}, which is none of the published retrieval networks: see build --weights"


def _of_cirtorch(name: str) -> bool:
    return name.startswith(("meta.", "state_dict."))
