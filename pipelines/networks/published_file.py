"""Reads a published network of any family from its file."""

from pathlib import Path
from typing import Any

from keras_retrieval.inert_files.errors import StoredWeightsError
from keras_retrieval.inert_files.torch_file import read_torch
from keras_retrieval.inert_files.weights_file import StoredWeights, read_weights

from . import cirtorch, dirtorch, matconvnet, published
from .errors import ConversionError


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
    if network.suffix == ".mat":
        if lw is not None:
            raise ConversionError("--lw is for networks of cirtorch; a NetVLAD file has its whitening inside")
        return matconvnet.to_keras(matconvnet.read_matlab(network), dim)
    stored, problem = _stored(network)
    if stored is not None and any(name.endswith("adpool.p") for name in stored.tensors):
        return _of_dirtorch(network, stored, lw, dim)
    found = None if stored is None else published.to_keras(stored, network)
    if found is not None:
        if lw is not None:
            raise ConversionError("--lw is for networks of cirtorch and dirtorch, whose files contain whitenings")
        return found
    if problem:
        raise ConversionError(problem)
    checkpoint = read_torch(network)
    model = cirtorch.to_keras(checkpoint)
    if lw is None:
        return model
    from keras_retrieval.networks.regional import with_whitening

    return with_whitening(model, *cirtorch.whitening_in(checkpoint, lw, lw_scales), dim)


def _of_dirtorch(network: Path, stored: StoredWeights, lw: str | None, dim: int | None) -> Any:
    from keras_retrieval.networks.regional import with_whitening

    checkpoint = stored.tensors if network.suffix == ".safetensors" else read_torch(network, objects=True)
    trunk = published.convolutional({name: array.shape for name, array in stored.tensors.items()})
    model = dirtorch.to_keras(checkpoint, trunk, network)
    return model if lw is None else with_whitening(model, *dirtorch.whitening_in(checkpoint, lw), dim)


def _stored(network: Path) -> tuple[StoredWeights | None, str]:
    """The weights of a file, and what to say if no family recognises it and it is not a file of torch."""
    try:
        stored = read_weights(network)
    except StoredWeightsError as error:
        return None, str(error) if network.suffix == ".safetensors" else ""  # cirtorch's reader explains the others
    if network.suffix != ".safetensors":
        return stored, ""
    from keras_retrieval.networks.looks_like import looks_like

    kind = looks_like({name: array.shape for name, array in stored.tensors.items()}) or "no network that is recognised"
    return stored, f"it looks like {kind}, which is none of the published retrieval networks: see build --weights"
