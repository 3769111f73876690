"""Checks options that name a network or its weights, before Keras is imported; see `command.kinds`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.errors import WeightsNotFoundError
from keras_retrieval.networks.names import check_weights
from keras_retrieval.networks.published_files import FILES as PUBLISHED_FILES
from keras_retrieval.networks.published_files import absence, named_file, nearest

from ..command.kinds import Reads, Writes, require_package
from .errors import NetworkError

FILES = (".keras", ".onnx")
"""Suffixes of network files that can be loaded."""


@dataclass(frozen=True)
class Network:
    """The kind of an option that names a network: a .keras file, an .onnx file, or a name such as vgg16_gem.

    Attributes:
        onnx: why an .onnx file is refused, the end of a message after "an .onnx network"; "" if it is accepted.
    """

    onnx: str = ""

    def __call__(self, label: str, value: Any) -> None:
        """Checks a network.

        Raises:
            ArgumentError: the name is unknown, no weights of it are published, or it is a file of another kind.
            WeightsNotFoundError: the weights folder does not have the published file of the network.
            NetworkError: the file does not exist.
            MissingExtraError: the file is an .onnx file, and ONNX Runtime is not installed.
        """
        check_network(value, self.onnx)


NETWORK = Network()
KERAS_NETWORK = Network("cannot be trained or converted: give the .keras file that it was made from")
KERAS_NETWORK_HELP = "A .keras file, or a name such as vgg16_gem (ImageNet weights) or megaloc (see the step weights)."
"""The help of the argument MODEL of steps that take a `KERAS_NETWORK`."""
KERAS_FILE = Writes("file")


def check_network(model: str | Path, onnx: str = "") -> None:
    """Checks that a network exists or can be built by its name, without loading it.

    Args:
        model: path of a .keras or .onnx file, or the name of a network such as "vgg16_gem".
        onnx: why an .onnx file is refused, the end of a message after "an .onnx network"; "" if it is accepted.

    Raises:
        ArgumentError: the name is unknown, no weights of it are published, or it is a file of another kind.
        WeightsNotFoundError: the weights folder does not have the published file of the network.
        NetworkError: the file does not exist.
        MissingExtraError: the file is an .onnx file, and ONNX Runtime is not installed.
    """
    path = Path(model)
    if path.suffix not in FILES:
        if os.sep in str(model) or path.suffix or path.exists():
            raise ArgumentError(f"MODEL must be a .keras file, an .onnx file or a name such as vgg16_gem, got {model}")
        check_weights(str(model))
        return
    if path.suffix == ".onnx" and onnx:
        raise ArgumentError(f"{model}: an .onnx network {onnx}")
    if not path.is_file():
        maker = "build vgg16_gem" if path.suffix == ".keras" else "export-onnx model.keras"
        problem = "it is a folder" if path.is_dir() else f"`keras-retrieval {maker} {path}` writes one"
        raise NetworkError(f"no network at {path}: {problem}")
    if path.suffix == ".onnx":
        require_package("onnxruntime", "ONNX Runtime", "onnx")


def weights(label: str, value: Any) -> None:
    """The kind of `--weights`: auto, imagenet, none, or a file, also by its name in the weights folder.

    Raises:
        WeightsNotFoundError: the file does not exist.
    """
    if value not in ("auto", "imagenet", "none"):
        _published_or_read(label, value, "give auto, imagenet, none or a file of weights")


def published_network(label: str, value: Any) -> None:
    """The kind of an option that names the file of a published network, also by its name in the weights folder.

    Raises:
        WeightsNotFoundError: the file does not exist.
    """
    near = nearest(str(value))
    _published_or_read(label, value, f"`keras-retrieval weights` lists names such as {near}" if near else "")


def _published_or_read(label: str, value: Any, fix: str) -> None:
    if named_file(value) is not None:
        return
    if str(value) in PUBLISHED_FILES:
        raise WeightsNotFoundError(absence(PUBLISHED_FILES[str(value)], str(value)))
    Reads("file", WeightsNotFoundError, fix)(label, value)


def known_weights(label: str, value: Any) -> None:
    """The kind of an option that names a published file.

    Raises:
        ArgumentError: there is no such name; the message suggests a similar one.
    """
    if value not in PUBLISHED_FILES:
        near = nearest(str(value))
        hint = f" The nearest is '{near}'." if near else ""
        raise ArgumentError(f"unknown weights '{value}'.{hint} `keras-retrieval weights` lists all")
