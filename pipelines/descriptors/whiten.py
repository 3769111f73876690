"""Learned whitening put into a network: `keras-retrieval whiten model.keras tuples.npz whitened.keras --photos PHOTOS`.

The photos are described once, into a folder of descriptors that stays: another method or number of dimensions is then
learned from it in seconds. No more than one shard and two D x D matrices are held in memory.
"""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import typer

from keras_retrieval.whitening.gram_pca import DIM, WIDE

from ..networks.files import load_model, model_identity, save_model, smallest_side
from ..networks.precision import PRECISION_HELP, check_precision, resolve_precision
from ..photos.edges import HELP as EDGES_HELP
from ..photos.edges import resolve_edges
from ..photos.reader import list_photos
from ..photos.reading import Reading
from .describer import ANTIALIAS_HELP, MIRROR_HELP, parse_scales
from .extract import extract
from .learn_whitening import Pairs, learn
from .regional_whitening import learn_regions

METHODS = ("lw", "pca", "regional-pca")
METHOD_HELP = (
    "lw: from matching pairs; pca: from the photos alone; regional-pca: pca of R-MAC's regions, inside the pooling."
)
SHRINKAGE_HELP = "lw: how far the scatter within pairs is drawn to its mean variance; about 1 where photos are few."
_FIELDS = ("images", "cluster", "qidxs", "pidxs")


def whiten(
    model: Annotated[str, typer.Argument(help="A .keras file, or a name such as vgg16_gem (ImageNet weights).")],
    tuples: Annotated[
        Path, typer.Argument(help="tuples.npz, or a folder of photos whose sub-folders show one object each.")
    ],
    output: Annotated[Path, typer.Argument(help="The .keras file to write.")],
    *,
    photos: Annotated[Path | None, typer.Option(help="The photos that tuples.npz names; a folder has its own.")] = None,
    method: Annotated[str, typer.Option(help=METHOD_HELP)] = "lw",
    shrinkage: Annotated[float, typer.Option(help=SHRINKAGE_HELP)] = 0.0,
    dim: Annotated[
        int | None, typer.Option(help=f"Dimensions to keep; all if not given, {DIM:,} of more than {WIDE:,}.")
    ] = None,
    size: Annotated[int, typer.Option(help="Longest side in pixels, as it will be in use.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, as they will be in use.")] = "1",
    antialias: Annotated[bool, typer.Option(help=ANTIALIAS_HELP)] = True,
    mirror: Annotated[bool, typer.Option(help=MIRROR_HELP)] = False,
    edges: Annotated[str, typer.Option(help=EDGES_HELP)] = "",
    precision: Annotated[str, typer.Option(help=PRECISION_HELP)] = "float32",
    descriptors: Annotated[
        Path | None, typer.Option(help="Folder of the photos' descriptors; OUTPUT.descriptors if not given.")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Describe anew what the folder holds of other photos or options.")] = (
        False
    ),
) -> Path:
    """Learns a whitening at the size and scales of its use, and saves the network with it inside.

    A whitening that the network has already is replaced.
    """
    if method not in METHODS:
        raise ValueError(f"--method {method} is not known: {' or '.join(METHODS)}")
    if not 0 <= shrinkage < float("inf") or (shrinkage and method != "lw"):
        raise ValueError(f"--shrinkage {shrinkage}: it is 0 or more, and only --method lw takes it")
    if output.suffix != ".keras":
        raise ValueError(f"{output}: a network is saved with the ending .keras")
    if Path(model).suffix == ".onnx":
        raise ValueError(f"{model}: a whitening is put into a .keras file, which is then exported again")
    folder = tuples if photos is None and tuples.is_dir() else photos
    if folder is None:
        raise ValueError(f"{tuples} names photos: give their folder as --photos")
    edges = resolve_edges(edges)
    check_precision(precision)
    pairs = read_pairs(tuples)
    precision = resolve_precision(precision)
    output.parent.mkdir(parents=True, exist_ok=True)
    if method == "regional-pca":
        if parse_scales(scales) != (1.0,) or mirror:
            raise ValueError("--method regional-pca learns from regions at --size: it takes no --scales or --mirror")
        return _whiten_regions(model, pairs.images, folder, output, dim, precision, size=size, edges=edges)
    described = descriptors or output.with_suffix(".descriptors")
    source = _without_whitening(model, described, dim)
    extract(
        source, folder, described, size=size, scales=scales, antialias=antialias, mirror=mirror, edges=edges,
        precision=precision, replace=replace,
    )  # fmt: skip
    projection = learn(described, pairs, method, shrinkage, dim)
    from keras_retrieval.networks.regional import whitened

    network = whitened(load_model(source), projection.m, projection.P, dim)
    save_model(network, output)
    print(f"{output}: {network.name} with {method}, {network.output_shape[-1]} dimensions")
    return output


def _whiten_regions(
    model: str, names: list[str], folder: Path, output: Path, dim: int | None, precision: str, **reading: Any
) -> Path:
    """Learns a whitening of regions and saves the network with it inside its pooling."""
    from keras_retrieval.networks.precision import set_trunk_precision
    from keras_retrieval.networks.regional import with_regional_whitening

    network = load_model(model)
    if precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    projection = learn_regions(network, names, Reading(folder, smallest=smallest_side(network), **reading))
    network = with_regional_whitening(load_model(model), projection.m, projection.P, dim)
    save_model(network, output)
    print(f"{output}: {network.name} with PCA of its regions, {network.output_shape[-1]} dimensions")
    return output


def read_pairs(tuples: Path) -> Pairs:
    """Reads the matching pairs of tuples.npz, or pairs all photos of each sub-folder of a folder.

    In a folder each photo is the query of as many pairs as its sub-folder has other photos.

    Args:
        tuples: an .npz file with images (n,) text, cluster (n,), qidxs and pidxs (pairs,) integers; or a folder, whose
            sub-folders on the first level are the objects.

    Raises:
        ValueError: there is no such file, a field is missing or does not fit, or there is no pair.
    """
    if tuples.is_dir():
        return _pairs_within(list_photos(tuples), tuples)
    if not tuples.is_file():
        raise ValueError(f"there is no {tuples}")
    try:
        with np.load(tuples, allow_pickle=False) as file:
            images, _, qidxs, pidxs = (file[field] for field in _FIELDS)
    except Exception as error:
        # A broken zip file has a dozen ways to fail, and none of numpy's names the file.
        raise ValueError(f"{tuples} is no .npz file with {', '.join(_FIELDS)}: {error}") from error
    if images.ndim != 1 or images.dtype.kind != "U":
        raise ValueError(f"{tuples}: images must be a list of names, not {images.dtype} of shape {images.shape}")
    for name, rows in (("qidxs", qidxs), ("pidxs", pidxs)):
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or rows.shape != qidxs.shape:
            raise ValueError(f"{tuples}: {name} must be a list of integers as long as qidxs")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(images):
            raise ValueError(f"{tuples}: {name} refers to a photo beyond the {len(images):,} named")
    return Pairs(images.tolist(), qidxs.astype("int64"), pidxs.astype("int64"))


def _pairs_within(names: list[str], folder: Path) -> Pairs:
    objects: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if "/" in name:
            objects.setdefault(PurePosixPath(name).parts[0], []).append(row)
    pairs = [(q, p) for rows in objects.values() for q in rows for p in rows if q != p]
    if not pairs:
        raise ValueError(f"{folder} has no sub-folder with two photos or more: there are no matching pairs")
    qidxs, pidxs = np.array(pairs, "int64").T
    return Pairs(names, qidxs, pidxs)


def _without_whitening(model: str, described: Path, dim: int | None) -> str:
    """The network itself, or a file beside the descriptors with what stands before its whitening, made once."""
    import keras

    network = load_model(model)
    has_whitening = any(layer.name == "whitening" for layer in network.layers)
    end = network.get_layer("whitening").input if has_whitening else network.output
    if dim is not None and not 1 <= dim <= end.shape[-1]:
        raise ValueError(f"--dim {dim}: the network has {end.shape[-1]} dimensions to keep")
    if not has_whitening:
        return model
    path = described.with_name(f"{described.name}-{model_identity(model)['sha256'][:8]}.keras")
    if not path.exists():
        save_model(keras.Model(network.input, end, name=network.name), path)
    return str(path)
