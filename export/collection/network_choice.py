"""Chooses the network of a collection: a given one, the best published one in the weights folder, or what there is.

`choose` looks at names and files only, within milliseconds; `prepare` converts or builds the network, which imports
Keras. A published file is converted once, into the state folder.
"""

import functools
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import sha256_of
from keras_retrieval.pipelines.networks.errors import ConversionError, NetworkError
from keras_retrieval.pipelines.networks.kinds import FILES, check_network

from keras_retrieval.errors import ArgumentError, RetrievalError
from keras_retrieval.networks.names import check_weights, is_published_network
from keras_retrieval.networks.published_files import FILES as PUBLISHED_FILES
from keras_retrieval.networks.published_files import named_file, weights_folder

log = logging.getLogger("keras_retrieval")

DEFAULT_NETWORK = "vgg16_gem"
RANDOM_NETWORK = "alexnet_gem"  # quick on any processor; a random VGG16 finds no more
SIZE = 362
"""The longest side of a photo in pixels if none is given: that with which the published networks were trained."""

GIVEN, AUTO, TRAINED = "given", "auto", "trained"
PUBLISHED, FOLDER_FILE, TRUNK, IMAGENET, RANDOM = range(5)  # kinds of networks, the best first

_PUBLISHED = (".pth", ".pt", ".ckpt", ".mat", ".tar", ".safetensors", ".pyth", ".torch")
_TRUNK_FILES = (".h5", ".npz", ".safetensors", ".pth", ".pt", ".keras")
_FIRST = (
    # Published networks, the best first: mean average precision on revisited Oxford, as their authors state it.
    (r"dinov3[_-]?vitl16", "DINOv3 ViT-L/16"),
    (r"dinov3[_-]?vitb16", "DINOv3 ViT-B/16"),
    (r"gl18-tl-resnet152-gem-w", "ResNet152-GeM, Google Landmarks 2018"),
    (r"gl18-tl-resnet101-gem-w", "ResNet101-GeM, Google Landmarks 2018"),
    (r"gl18-tl-resnet50-gem-w", "ResNet50-GeM, Google Landmarks 2018"),
    (r"rSfM120k-tl-resnet152-gem-w", "ResNet152-GeM, retrieval-SfM-120k"),
    (r"rSfM120k-tl-resnet101-gem-w", "ResNet101-GeM, retrieval-SfM-120k"),
    (r"retrievalSfM120k-resnet101-gem", "ResNet101-GeM, retrieval-SfM-120k"),
    (r"rSfM120k-tl-resnet50-gem-w", "ResNet50-GeM, retrieval-SfM-120k"),
    (r"retrievalSfM30k-resnet101-gem", "ResNet101-GeM, retrieval-SfM-30k"),
    (r"retrievalSfM120k-vgg16-gem", "VGG16-GeM, retrieval-SfM-120k"),
    (r"retrievalSfM30k-vgg16-gem", "VGG16-GeM, retrieval-SfM-30k"),
    (r"netvlad|vd16_pitts30k", "VGG16-NetVLAD, Pittsburgh 30k"),
)
_ANY_PUBLISHED = len(_FIRST)
# Other published networks, whose files may have the name of their trunk, too; their content decides.
_FAMILIES = r"cosplace|eigenplaces|mixvpr|boq|salad|clique|megaloc|superglobal|cvnet|ap[-_]?gem|dinov[23]|netvlad"
# Weights of trunks: a pattern of the file's name, and the trunk. Names of torchvision have a hash of 8 digits.
_TRUNKS = (
    (r"vgg16", "vgg16"),
    (r"resnet101", "resnet101"),
    (r"resnet50", "resnet50"),
    (r"vgg19", "vgg19"),
    (r"densenet(121|169|201)", r"densenet\1"),
    (r"alexnet", "alexnet"),
)
_TORCH_FILES = (".pth", ".pt", ".safetensors")
# The first value of VGG16's first kernel, in Keras' weights and in torchvision's: which pixels the weights expect.
_FIRST_KERNEL = ((0.42947057, "caffe"), (-0.55373, "torch"))
_IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
_IMAGENET_MEGABYTES = 59
_HOST = "storage.googleapis.com"
_PATIENCE = 5.0  # seconds to find out whether there is a connection


@dataclass(frozen=True)
class Candidate:
    """A network that can be had.

    Attributes:
        kind: one of `PUBLISHED`, `FOLDER_FILE`, `TRUNK`, `IMAGENET` and `RANDOM`; smaller is better.
        rank: the order among candidates of one kind; smaller is better.
        source: the file or the name from which it is made.
        label: the name for users.
    """

    kind: int
    rank: int
    source: str
    label: str


@dataclass(frozen=True)
class ChosenNetwork:
    """A network that can be loaded.

    Attributes:
        model: path of a .keras or .onnx file, or a name such as "vgg16_gem", for `load_model`.
        label: the name for users.
        choice: how it was chosen: `GIVEN`, `AUTO` or `TRAINED`.
        kind: as for `Candidate`.
        rank: as for `Candidate`.
        source: the file or the name from which it was made.
        message: a sentence for users who should know more, or "".
    """

    model: str
    label: str
    choice: str = GIVEN
    kind: int = PUBLISHED
    rank: int = 0
    source: str = ""
    message: str = ""

    def record(self) -> dict[str, Any]:
        """Returns the entries by which `recorded` finds the network again."""
        return {
            "model": self.model, "label": self.label, "choice": self.choice, "kind": self.kind, "rank": self.rank,
            "source": self.source, "message": self.message,
        }  # fmt: skip


def recorded(record: Mapping[str, Any]) -> ChosenNetwork | None:
    """Returns the network of a record, or None if its file is gone or the record is damaged."""
    try:
        network = ChosenNetwork(**{key: record[key] for key in ChosenNetwork("", "").record()})
    except (KeyError, TypeError):
        return None
    return network if not _is_file_name(network.model) or Path(network.model).is_file() else None


def check_model(model: str | None) -> None:
    """Checks a given network before anything heavy is imported.

    Args:
        model: a name, a path, "auto" or None.

    Raises:
        NetworkError: the file does not exist, or is of no kind that can be read.
        ArgumentError: the name is unknown, or no weights of the network are published.
        WeightsNotFoundError: the weights folder does not have the published file of the network.
        MissingExtraError: the file is an .onnx file, and ONNX Runtime is not installed.
    """
    if model is None or model == "auto":
        return
    path = Path(model)
    if path.suffix in FILES:
        check_network(path)
        return
    if _is_file_name(model):
        if named_file(model) is None:
            raise NetworkError(f"no network at {path}: name a .keras or .onnx file, a published network, or a name")
        return
    if os.sep in model or path.suffix or path.exists():
        raise NetworkError(
            f"MODEL must be a .keras or .onnx file, a published network ({', '.join(_PUBLISHED)}), weights of a trunk "
            f"(.h5, .npz), or a name such as {DEFAULT_NETWORK}, got {model}"
        )
    check_weights(model)


def network_of_collection(label: str, value: Any) -> None:
    """The kind of an option that names the network of a collection; raises the errors of `check_model`."""
    check_model(value)


def choose(model: str | None, record: Mapping[str, Any] | None) -> list[Candidate] | ChosenNetwork:
    """Chooses a network by names and files.

    Args:
        model: a name or a path; "auto" for the best network; None for that of `record`, which is kept unless it was
            chosen automatically and a better one has appeared in the weights folder.
        record: the record of the network that the collection has.

    Returns:
        The network of the record if it is kept; otherwise the candidates for `prepare`, the best first.

    Raises:
        RetrievalError: as for `check_model`.
        NetworkError: `model` is None, and the file of the network of `record` is gone.
    """
    check_model(model)
    if model is not None and model != "auto":
        return [_given(model)]
    kept = recorded(record) if record else None
    candidates = list(_candidates())
    if record and model is None and kept is None:
        _require_as_good(record, candidates)
    if kept is not None and (model is None or kept.choice == AUTO):
        better = candidates and (candidates[0].kind, candidates[0].rank) < (kept.kind, kept.rank)
        if kept.choice != AUTO or not better:
            return kept
    return candidates


def _require_as_good(record: Mapping[str, Any], candidates: list[Candidate]) -> None:
    """Protects an index of a network whose file is gone from being replaced by one of a worse network."""
    automatic = record.get("choice") == AUTO
    wanted = (record.get("kind", PUBLISHED), record.get("rank", 0))
    if not (automatic and candidates and (candidates[0].kind, candidates[0].rank) <= wanted):
        raise NetworkError(
            f"the network of the photos is no longer at {record.get('model')}: put it there, or give it with --model; "
            "with --model auto another one is chosen, and all photos are described again"
        )


def _given(model: str) -> Candidate:
    path = Path(model)
    if _is_file_name(model) and path.suffix not in FILES:
        path = named_file(model) or path
    if path.suffix in FILES or not _is_file_name(model):
        return Candidate(FOLDER_FILE, 0, model, path.name)
    trunk = _trunk_of(path.name)
    kind = TRUNK if trunk and path.suffix in (".h5", ".npz") else PUBLISHED
    return Candidate(kind, 0, str(path.resolve()), _label(path.name))


def _candidates() -> Iterator[Candidate]:
    """The networks that can be had without a connection, the best first."""
    found = []
    try:
        files = sorted(path for path in weights_folder().iterdir() if path.is_file())
    except OSError:
        files = []
    for path in files:
        candidate = _candidate(path)
        if candidate is not None:
            found.append(candidate)
    yield from sorted(found, key=lambda one: (one.kind, one.rank, one.source))
    if (keras_home() / "models" / _IMAGENET_FILE).is_file():
        yield Candidate(IMAGENET, 0, DEFAULT_NETWORK, "VGG16-GeM, ImageNet")


def _candidate(path: Path) -> Candidate | None:
    for rank, (pattern, label) in enumerate(_FIRST):
        if path.suffix in _PUBLISHED and re.search(pattern, path.name, re.IGNORECASE):
            return Candidate(PUBLISHED, rank, str(path.resolve()), label)
    if path.suffix in FILES:
        return Candidate(FOLDER_FILE, 0, str(path.resolve()), path.name)
    if any(file.file == path.name and is_published_network(file.name) for file in PUBLISHED_FILES.values()):
        return Candidate(PUBLISHED, _ANY_PUBLISHED, str(path.resolve()), path.name)
    if path.suffix in _PUBLISHED and re.search(_FAMILIES, path.name, re.IGNORECASE):
        return Candidate(PUBLISHED, _ANY_PUBLISHED, str(path.resolve()), path.name)
    order = next(
        (row for row, (pattern, _) in enumerate(_TRUNKS) if re.search(pattern, path.name, re.IGNORECASE)), None
    )
    if order is not None and path.suffix in _TRUNK_FILES:
        return Candidate(TRUNK, order, str(path.resolve()), _label(path.name))
    if path.suffix in _PUBLISHED:  # a renamed one: its content decides whether it can be converted
        return Candidate(PUBLISHED, _ANY_PUBLISHED, str(path.resolve()), path.name)
    return None


def _label(name: str) -> str:
    known = next((label for pattern, label in _FIRST if re.search(pattern, name, re.IGNORECASE)), "")
    return known or name


def _trunk_of(name: str) -> str:
    """The trunk whose weights a file has, by its name, or ""."""
    for pattern, trunk in _TRUNKS:
        match = re.search(pattern, name, re.IGNORECASE)
        if match:
            return match.expand(trunk)
    return ""


def _is_file_name(model: str) -> bool:
    return Path(model).suffix in {*FILES, *_PUBLISHED, *_TRUNK_FILES}


def keras_home() -> Path:
    """Returns the folder in which Keras keeps downloaded weights."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


def prepare(
    chosen: list[Candidate] | ChosenNetwork, models: Path, choice: str, kept: ChosenNetwork | None = None
) -> ChosenNetwork:
    """Makes a network that can be loaded: converts or builds the first candidate that can be used.

    Without any candidate, VGG16 with ImageNet weights is downloaded; if there is no connection, a random network is
    built, which finds copies and photos of similar colours and textures only.

    Args:
        chosen: what `choose` returned.
        models: the folder for networks that are made.
        choice: `GIVEN` or `AUTO`, for the result. A given network that cannot be used is an error.
        kept: the network that the collection has, which it keeps if no candidate can be used.

    Raises:
        RetrievalError: a given network cannot be converted or built.
        OSError: the network cannot be written.
    """
    if isinstance(chosen, ChosenNetwork):
        return chosen
    for candidate in chosen:
        try:
            model = _model(candidate, models)
        except RetrievalError as error:
            if choice == GIVEN:
                raise
            _warn_once(f"{candidate.source} is not used: {error}")
            continue
        return ChosenNetwork(
            model, candidate.label, choice, candidate.kind, candidate.rank, candidate.source, _message(candidate)
        )
    return kept or _downloaded() or _random(models)


@functools.cache
def _warn_once(sentence: str) -> None:
    """Warns the first time only: a collection that follows its folder chooses its network again at each look."""
    log.warning(sentence)


def _message(candidate: Candidate) -> str:
    if candidate.kind not in (TRUNK, IMAGENET):
        return ""
    return (
        f"{candidate.label}: a network for classification, not trained for retrieval. A published network in "
        f"{weights_folder()}, such as retrievalSfM120k-vgg16-gem.pth, or --train finds more."
    )


def _model(candidate: Candidate, models: Path) -> str:
    if candidate.kind == IMAGENET or not _is_file_name(candidate.source):
        return candidate.source
    path = Path(candidate.source)
    if path.suffix in FILES and not _is_trunk_file(candidate):
        return str(path.resolve())
    made = models / f"{path.stem[:80]}-{sha256_of(path)[:12]}.keras"
    if not made.is_file():
        from keras_retrieval.pipelines.networks.files import save_model

        save_model(_trunk_network(path) if _is_trunk_file(candidate) else _published_network(path), made)
    return str(made)


def _is_trunk_file(candidate: Candidate) -> bool:
    return candidate.kind == TRUNK


def _published_network(path: Path) -> Any:
    """Converts a published network, with the whitening that its file has for a training set."""
    from keras_retrieval.pipelines.networks.files import WHITENINGS
    from keras_retrieval.pipelines.networks.published_file import read_published_whitened

    try:
        return read_published_whitened(path, WHITENINGS)
    except RetrievalError as error:
        if _trunk_of(path.name):
            return _trunk_network(path)
        if isinstance(error, ConversionError | ArgumentError):
            raise ConversionError(f"{path} cannot be converted: {error}") from error
        raise


def _trunk_network(path: Path) -> Any:
    """Builds a network with GeM pooling on the trunk whose weights a file has."""
    import keras_retrieval

    trunk = _trunk_of(path.name)
    if trunk.startswith("resnet") and path.suffix in _TORCH_FILES:
        trunk = f"torch{trunk}"
    return keras_retrieval.build(f"{trunk}_gem", weights=path, normalization=_normalization(path, trunk))


def _normalization(path: Path, trunk: str) -> str | None:
    """The pixels that the weights of a trunk expect; None for those that the trunk or the file itself states."""
    if trunk not in ("vgg16", "vgg19", "resnet50", "resnet101"):
        return None
    if path.suffix in _TORCH_FILES:
        return "torch"
    return _by_content(path) or ("torch" if "torch" in path.name.lower() else "caffe")


def _by_content(path: Path) -> str:
    """Recognises VGG16's published weights by their first value; "" for others."""
    if path.suffix != ".h5":
        return ""
    import h5py
    import numpy as np

    found: list[float] = []

    def visit(name: str, node: Any) -> None:
        if "block1_conv1" in name and isinstance(node, h5py.Dataset) and node.shape == (3, 3, 3, 64):
            found.append(float(np.ravel(node[:1, :1, :1, :1])[0]))

    try:
        with h5py.File(path) as file:
            file.visititems(visit)
    except OSError:
        return ""
    return next((kind for value, kind in _FIRST_KERNEL if found and abs(found[0] - value) < 1e-4), "")


def _downloaded() -> ChosenNetwork | None:
    """VGG16 with Keras' ImageNet weights, if they can be downloaded."""
    if not _is_connected():
        return None
    log.info(f"downloading VGG16's ImageNet weights once, {_IMAGENET_MEGABYTES} MB")
    import keras_retrieval

    try:
        keras_retrieval.build(DEFAULT_NETWORK)
    except RetrievalError as error:
        log.warning(str(error))
        return None
    candidate = Candidate(IMAGENET, 0, DEFAULT_NETWORK, "VGG16-GeM, ImageNet")
    return ChosenNetwork(DEFAULT_NETWORK, candidate.label, AUTO, IMAGENET, 0, DEFAULT_NETWORK, _message(candidate))


def _is_connected() -> bool:
    """Whether Keras' server can be reached; a download without a connection would wait for minutes."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.create_connection((_HOST, 443), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def _random(models: Path) -> ChosenNetwork:
    """A network with random weights, which is built once so that it stays the same."""
    path = models / f"random-{RANDOM_NETWORK}.keras"
    if not path.is_file():
        import keras
        from keras_retrieval.pipelines.networks.files import save_model

        import keras_retrieval

        keras.utils.set_random_seed(0)
        save_model(keras_retrieval.build(RANDOM_NETWORK, weights=None), path)
    message = (
        "No weights were found and none could be downloaded: a random network is used, which finds copies and photos "
        f"of similar colours and textures, and little more. Put {_IMAGENET_FILE} (from {_HOST}) or a published network "
        f"such as retrievalSfM120k-vgg16-gem.pth into {weights_folder()} and start again."
    )
    return ChosenNetwork(str(path), f"random {RANDOM_NETWORK}", AUTO, RANDOM, 0, RANDOM_NETWORK, message)
