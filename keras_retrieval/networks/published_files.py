"""The table of published files of weights, and the folder in which they are found by name.

The folder is `~/.keras-retrieval/weights`, or the one that the environment variable KERAS_RETRIEVAL_WEIGHTS names.
Nothing here imports Keras, downloads anything or reads a file's content.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .errors import WeightsError, WeightsNotFoundError

WEIGHTS_VARIABLE = "KERAS_RETRIEVAL_WEIGHTS"
"""The environment variable that names another weights folder than ~/.keras-retrieval/weights."""

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".bin", ".pth.tar", ".torch", ".pyth", ".mat")
"""The ends of the names of published files."""


@dataclass(frozen=True)
class Publisher:
    """Who publishes files, where, and on which terms.

    Attributes:
        title: the name of the family of networks.
        page: the address of the page on which the files are published.
        licence: the licence that the publisher states, or "see page" where none was verified.
        needs: what a user has to do or to install beside the download; "" for nothing.
        hashed: whether names of files end in the first digits of their SHA-256, as torch.hub prescribes.
        convert: whether a network is read by `convert` only, not by `build`.
    """

    title: str
    page: str
    licence: str
    needs: str = ""
    hashed: bool = False
    convert: bool = False


@dataclass(frozen=True)
class PublishedFile:
    """A published file of weights.

    Attributes:
        name: its name for `build` and `weights get`: a published network, or a trunk.
        file: the name of the file in the weights folder.
        publisher: who publishes it.
        megabytes: its size in 10^6 bytes, computed from the number of weights; 0 if it is not known.
        url: the address from which it is downloaded; "" if it must be fetched from the publisher's page by hand.
        others: patterns of other names, below the weights folder, that the file has in use.
    """

    name: str
    file: str
    publisher: Publisher
    megabytes: float = 0
    url: str = ""
    others: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The first digits of the file's SHA-256, in hexadecimal, as far as they are known; "" if they are not."""
        found = re.search(r"-([0-9a-f]{8,64})\.\w+$", self.file) if self.publisher.hashed else None
        return found[1] if found else ""

    @property
    def by_hand(self) -> str:
        """Says how to fetch the file by hand: from the publisher's page, and under which name into the folder."""
        published = unquote(urlsplit(self.url).path).rpartition("/")[2] or self.file
        name = "" if published == self.file else f" as {self.file}"
        return f"fetch {published} from {self.publisher.page} by hand and put it into {weights_folder()}{name}"


_DRIVE = "a download by hand: the page links to a file on Google Drive"
_DINOV2 = Publisher("DINOv2", "https://github.com/facebookresearch/dinov2", "Apache-2.0")
_DINOV3 = Publisher(
    "DINOv3",
    "https://ai.meta.com/resources/models-and-libraries/dinov3-downloads/",
    "DINOv3 License",
    needs="acceptance of the licence on the page, which then gives the addresses; or the page of Hugging Face",
    hashed=True,
)
_MEGALOC = Publisher("MegaLoc", "https://huggingface.co/gberton/MegaLoc", "MIT")
_SALAD = Publisher("SALAD", "https://github.com/serizba/salad", "see page")
_CLIQUE = Publisher("CliqueMining", "https://github.com/serizba/cliquemining", "see page", needs=_DRIVE)
_BOQ = Publisher("BoQ", "https://github.com/amaralibey/Bag-of-Queries", "MIT")
_MIXVPR = Publisher("MixVPR", "https://github.com/amaralibey/MixVPR", "see page", needs=_DRIVE)
_COSPLACE = Publisher("CosPlace", "https://github.com/gmberton/CosPlace", "see page")
_EIGENPLACES = Publisher("EigenPlaces", "https://github.com/gmberton/EigenPlaces", "MIT")
_CVNET = Publisher(
    "SuperGlobal on CVNet",
    "https://github.com/ShihaoShao-GH/SuperGlobal",
    "MIT for SuperGlobal's code; CVNet's weights: see page",
    needs="a download by hand from CVNet's page, https://github.com/sungonce/CVNet",
)
_DIRTORCH = Publisher(
    "AP-GeM (dirtorch)",
    "https://github.com/naver/deep-image-retrieval",
    "see page",
    needs=_DRIVE,
    convert=True,
)
_CIRTORCH = Publisher(
    "GeM (cirtorch)", "https://github.com/filipradenovic/cnnimageretrieval-pytorch", "MIT for the code", convert=True
)
_NETVLAD = Publisher(
    "NetVLAD (pytorch-NetVlad)",
    "https://github.com/Nanne/pytorch-NetVlad",
    "see page",
    needs=_DRIVE,
    convert=True,
)
_TORCHVISION = Publisher(
    "torchvision, ImageNet", "https://docs.pytorch.org/vision/stable/models.html", "see page", hashed=True
)


def _dinov2(size: str, megabytes: float) -> list[PublishedFile]:
    address, folder = "https://dl.fbaipublicfiles.com/dinov2", f"dinov2_vit{size}14"
    found = []
    for name, file in (
        (f"dinov2vit{size}14", f"{folder}_pretrain.pth"),
        (f"dinov2vit{size}14reg", f"{folder}_reg4_pretrain.pth"),
    ):
        found.append(PublishedFile(name, file, _DINOV2, megabytes, f"{address}/{folder}/{file}"))
    return found


def _dinov3(trunk: str, word: str, megabytes: float, digits: str) -> PublishedFile:
    return PublishedFile(
        trunk,
        f"dinov3_{word}_pretrain_lvd1689m-{digits}.pth",
        _DINOV3,
        megabytes,
        others=(
            f"dinov3_{word}_pretrain_lvd1689m*",
            f"dinov3-{word.replace('_', '-')}-pretrain-lvd1689m*",
            f"dinov3-{word.replace('_', '-')}-pretrain-lvd1689m/model.safetensors",
        ),
    )


def _places(name: str, publisher: Publisher, sizes: Mapping[str, tuple[str, float]]) -> list[PublishedFile]:
    """The files of CosPlace or EigenPlaces: their names end in the name of the family."""
    address = f"{publisher.page}/releases/download/v1.0"
    return [
        PublishedFile(f"{name}{end}", f"{words}_{name}.pth", publisher, megabytes, f"{address}/{words}_{name}.pth")
        for end, (words, megabytes) in sizes.items()
    ]


def _cirtorch(name: str, digits: str, folder: str, megabytes: float) -> PublishedFile:
    address = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks"
    file = f"{name}-{digits}.pth"
    return PublishedFile(name, file, _CIRTORCH, megabytes, f"{address}/{folder}/{file}", (f"{name}*",))


def _torchvision(trunk: str, file: str, megabytes: float, others: tuple[str, ...] = ()) -> PublishedFile:
    return PublishedFile(trunk, file, _TORCHVISION, megabytes, f"https://download.pytorch.org/models/{file}", others)


_PLACES = {
    "": ("ResNet50_2048", 111),
    "-resnet18": ("ResNet18_512", 46),
    "-resnet101": ("ResNet101_2048", 187),
    "-vgg16": ("VGG16_512", 60),
}
_BAG = "https://github.com/amaralibey/Bag-of-Queries/releases/download/v1.0"

FILES: Mapping[str, PublishedFile] = {
    file.name: file
    for file in [
        PublishedFile(
            "megaloc",
            "megaloc.safetensors",
            _MEGALOC,
            914,
            "https://huggingface.co/gberton/MegaLoc/resolve/main/model.safetensors",
            ("megaloc.*", "megaloc/model.safetensors"),
        ),
        PublishedFile(
            "salad",
            "dino_salad.ckpt",
            _SALAD,
            352,
            "https://github.com/serizba/salad/releases/download/v1.0.0/dino_salad.ckpt",
            ("dino_salad.*",),
        ),
        PublishedFile("cliquemining", "cliquemining.ckpt", _CLIQUE, 352, others=("clique*mining*", "clique_mining*")),
        PublishedFile("boq", "dinov2_12288.pth", _BOQ, 380, f"{_BAG}/dinov2_12288.pth"),
        PublishedFile("boq-resnet50", "resnet50_16384.pth", _BOQ, 95, f"{_BAG}/resnet50_16384.pth"),
        PublishedFile(
            "mixvpr", "resnet50_MixVPR_4096_channels(1024)_rows(4).ckpt", _MIXVPR, 44, others=("*mixvpr_4096*",)
        ),
        *_places("cosplace", _COSPLACE, _PLACES),
        *_places("eigenplaces", _EIGENPLACES, _PLACES),
        PublishedFile("superglobal", "CVPR2022_CVNet_R50.pyth", _CVNET, others=("*cvnet_r50.*",)),
        PublishedFile("superglobal-resnet101", "CVPR2022_CVNet_R101.pyth", _CVNET, others=("*cvnet_r101.*",)),
        PublishedFile("ap-gem-resnet50", "Resnet50-AP-GeM.pt", _DIRTORCH),
        PublishedFile("ap-gem-resnet101", "Resnet101-AP-GeM.pt", _DIRTORCH, others=("resnet-101-ap-gem.pt",)),
        PublishedFile("ap-gem-resnet101-lm18", "Resnet101-AP-GeM-LM18.pt", _DIRTORCH),
        _cirtorch("retrievalSfM120k-vgg16-gem", "b4dcdc6", "retrieval-SfM-120k", 0),
        _cirtorch("retrievalSfM120k-resnet101-gem", "b80fb85", "retrieval-SfM-120k", 0),
        _cirtorch("rSfM120k-tl-resnet50-gem-w", "97bf910", "retrieval-SfM-120k", 0),
        _cirtorch("rSfM120k-tl-resnet101-gem-w", "a155e54", "retrieval-SfM-120k", 0),
        _cirtorch("rSfM120k-tl-resnet152-gem-w", "f39cada", "retrieval-SfM-120k", 0),
        _cirtorch("gl18-tl-resnet50-gem-w", "83fdc30", "gl18", 0),
        _cirtorch("gl18-tl-resnet101-gem-w", "a4d43db", "gl18", 0),
        _cirtorch("gl18-tl-resnet152-gem-w", "21278d5", "gl18", 0),
        PublishedFile("netvlad", "netvlad.pth.tar", _NETVLAD, others=("vgg16_netvlad_checkpoint/*/*.pth.tar",)),
        *_dinov2("s", 88),
        *_dinov2("b", 346),
        *_dinov2("l", 1217),
        *_dinov2("g", 4546),
        _dinov3("dinov3vits16", "vits16", 86, "08c60483"),
        _dinov3("dinov3vits16plus", "vits16plus", 115, "4057cbaa"),
        _dinov3("dinov3vitb16", "vitb16", 343, "73cec8be"),
        _dinov3("dinov3vitl16", "vitl16", 1213, "8aa4cbdd"),
        _dinov3("dinov3vith16plus", "vith16plus", 3362, "7c1da9a5"),
        _dinov3("dinov3convnexttiny", "convnext_tiny", 111, "21b726bb"),
        _dinov3("dinov3convnextsmall", "convnext_small", 198, "296db49d"),
        _dinov3("dinov3convnextbase", "convnext_base", 350, "801f2ba9"),
        _dinov3("dinov3convnextlarge", "convnext_large", 785, "61fa432d"),
        _torchvision("alexnet", "alexnet-owt-7be5be79.pth", 244, ("alexnet-owt-*.pth",)),
        _torchvision("torchresnet18", "resnet18-f37072fd.pth", 47, ("resnet18-????????.pth",)),
        _torchvision("torchresnet34", "resnet34-b627a593.pth", 87, ("resnet34-????????.pth",)),
        _torchvision("torchresnet50", "resnet50-0676ba61.pth", 103, ("resnet50-????????.pth",)),
        _torchvision("torchresnet101", "resnet101-63fe2227.pth", 179, ("resnet101-????????.pth",)),
        _torchvision("torchresnet152", "resnet152-394f9c45.pth", 242, ("resnet152-????????.pth",)),
    ]
}  # fmt: skip
"""The published files by name."""


def weights_folder() -> Path:
    """Returns the folder in which published files are looked for; it need not exist."""
    given = os.environ.get(WEIGHTS_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".keras-retrieval" / "weights"


def file_in_folder(file: PublishedFile) -> Path | None:
    """Finds a published file in the weights folder, under any name that it has in use.

    Args:
        file: an entry of `FILES`.

    Returns:
        The path of a file with its own name, else of one called as the network (megaloc.pth), else of one that has
        another of its names; None if there is none.

    Raises:
        WeightsError: the folder cannot be read.
    """
    folder = weights_folder()
    exact = folder / file.file
    if exact.is_file():
        return exact
    own = [f"{file.name}{suffix}".lower() for suffix in SUFFIXES]
    patterns = [pattern.lower() for pattern in file.others]
    for wanted in (own, patterns):
        for path in _files(folder, any("/" in pattern for pattern in wanted)):
            name = path.relative_to(folder).as_posix().lower()
            if name.endswith(SUFFIXES) and any(fnmatchcase(name, pattern) for pattern in wanted):
                return path
    return None


def _files(folder: Path, deep: bool) -> list[Path]:
    try:
        return sorted(path for path in (folder.rglob("*") if deep else folder.iterdir()) if path.is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise WeightsError(
            f"the weights folder {folder} cannot be read: {error.strerror}; {WEIGHTS_VARIABLE} names another"
        ) from error


def require_file(names: Iterable[str], network: str) -> Path:
    """Finds the published file of a network in the weights folder.

    Args:
        names: keys of `FILES`, the preferred one first.
        network: the name of the network, for the message.

    Returns:
        The path of the first file that the folder has.

    Raises:
        WeightsNotFoundError: the folder has none of the files; the message says how to get the first one.
    """
    files = [FILES[name] for name in names]
    for file in files:
        path = file_in_folder(file)
        if path is not None:
            return path
    raise WeightsNotFoundError(absence(files[0], network))


def absence(file: PublishedFile, network: str) -> str:
    """Says that a published file is missing, and how to get it."""
    here = f"the weights of {network} are missing: {file.file} is not in {weights_folder()}"
    if file.url:
        return f"{here}. `keras-retrieval weights get {file.name}` downloads it; or {file.by_hand}"
    by_hand = file.by_hand[:1].upper() + file.by_hand[1:]
    return f"{here}. {by_hand}; `keras-retrieval weights list {file.name}` says what it needs"


def named_file(weights: str | os.PathLike[str]) -> Path | None:
    """Finds the file that a word names: a path, a file in the weights folder, or a published file.

    Args:
        weights: a path, the name of a file in the weights folder, or a key of `FILES`.

    Returns:
        The path of an existing file; None if there is none.
    """
    path, word = Path(weights), os.fspath(weights)
    if path.is_file():
        return path
    if word in FILES:
        return file_in_folder(FILES[word])
    inside = weights_folder() / path
    return inside if not path.is_absolute() and path.name == word and inside.is_file() else None


def nearest(name: str) -> str:
    """The published file whose name is most like a given one, or ""."""
    return next(iter(difflib.get_close_matches(name, FILES, 1, 0.5)), "")
