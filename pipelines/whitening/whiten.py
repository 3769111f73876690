"""The command `keras-retrieval whiten MODEL TUPLES OUTPUT`, which learns a whitening or an adaptation of a network.

The descriptors of the photos are computed once and kept in a folder, so that a whitening with another method or another
number of dimensions is learned from the same folder in seconds. The folder stores the descriptors in several .npy
files, called shards. At most one shard and two D x D matrices are in memory, where D is the number of dimensions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..command.options import takes
from ..descriptors.extraction import extract_descriptors
from ..descriptors.learn_whitening import learn_whitening
from ..descriptors.matching_pairs import read_pairs
from ..descriptors.options import ExtractOptions
from ..networks.files import load_model, model_identity, save_model, smallest_side
from ..networks.precision import resolve_precision
from ..photos.edges import resolve_edges
from ..photos.reading import Reading
from .adaptation import learn_adaptation
from .objects import read_objects
from .options import WhitenOptions
from .regional_whitening import learn_regional_whitening


@takes(WhitenOptions)
def whiten(options: WhitenOptions) -> Path:
    """Learns a whitening from photos and saves the network together with the whitening.

    The descriptors are computed at the given size and scales, which should be those with which the whitened network
    will be used. If the network already has a whitening, the new whitening replaces it; but the method linear learns
    from the descriptors of the whole network, and its adaptation is merged with the whitening. It leaves a network as
    it is if photos of objects that it did not learn from gain nothing; what was chosen, and why, is printed.

    Returns:
        The path `output` of the whitened network.

    Raises:
        ArgumentError: an option is out of range, two options cannot be combined (see `WhitenOptions.check`), or `dim`
            exceeds the number of dimensions of the network.
        PairsError: the training tuples or matching pairs cannot be read.
        PhotoFolderError: `tuples` is a folder without photos, or lw is to be learned from folders that do not show
            which photos are of one object.
        FolderError: the folder of descriptors contains other descriptors and may not be replaced.
        WhiteningError: no photo has a descriptor, or the descriptors have too many dimensions for the method.
        ValueError: the network cannot be loaded, or too few photos or pairs have a descriptor.
    """
    options = replace(options, edges=resolve_edges(options.edges))
    if options.method == "linear":
        return _adapt(options)
    pairs = read_pairs(options.tuples, options.take, options.objects, needed=options.method == "lw")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.method == "regional-pca":
        options = replace(options, precision=resolve_precision(options.precision, options.model))
        network = _with_whitened_regions(options, pairs.images)
    else:
        described = options.descriptors or options.output.with_suffix(".descriptors")
        source = _without_whitening(options.model, described, options.dim)
        _describe(source, described, options)
        from keras_retrieval.networks.regional import with_whitening

        projection = learn_whitening(described, pairs, options.method, options.shrinkage, options.dim, options.shift)
        network = with_whitening(load_model(source), projection.m, projection.P, options.dim)
    save_model(network, options.output)
    print(f"{options.output}: {network.name} with {options.method}, {network.output_shape[-1]} dimensions")
    return options.output


def _adapt(options: WhitenOptions) -> Path:
    """Learns a linear adaptation and saves the network with it, or as it is."""
    photos = read_objects(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    described = options.descriptors or options.output.with_suffix(".descriptors")
    network = load_model(options.model)
    size = network.output_shape[-1]
    if options.dim is not None and options.dim > size:
        raise ArgumentError(f"--dim must be at most {size}, the network's dimensions, got {options.dim}")
    from keras_retrieval.networks.regional import with_adaptation

    with_adaptation(network, np.eye(1, size))  # refuses a network that cannot be adapted before photos are described
    _describe(options.model, described, options)
    learned = learn_adaptation(described, photos, options.dim, options.seed)
    if learned.projection is not None:
        network = with_adaptation(network, learned.projection.P)
    save_model(network, options.output)
    print(learned.account)
    how = "unchanged" if learned.projection is None else "with linear"
    print(f"{options.output}: {network.name} {how}, {network.output_shape[-1]} dimensions")
    return options.output


def _describe(model: str, output: Path, options: WhitenOptions) -> None:
    """Writes the descriptors of the photos to a folder, unless they are there."""
    extract_descriptors(
        ExtractOptions(
            model, options.folder, output, size=options.size, scales=options.scales, antialias=options.antialias,
            mirror=options.mirror, edges=options.edges, precision=options.precision, runtime=options.runtime,
            replace=options.replace, **options.passed_on, **options.engine_passed_on,
        )
    )  # fmt: skip


def _with_whitened_regions(options: WhitenOptions, names: list[str]) -> Any:
    """Learns a whitening of regional descriptors; returns the network with the whitening inside its pooling."""
    from keras_retrieval.networks.precision import set_trunk_precision
    from keras_retrieval.networks.regional import with_regional_whitening

    network = load_model(options.model)
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    reading = Reading(
        options.folder,
        options.size,
        smallest=smallest_side(network),
        edges=options.edges,
        accept_truncated=options.accept_truncated,
    )
    projection = learn_regional_whitening(network, names, reading)
    return with_regional_whitening(load_model(options.model), projection.m, projection.P, options.dim)


def _without_whitening(model: str, described: Path, dim: int | None) -> str:
    """Returns a network without a whitening: `model` itself, or a new file with the layers before its whitening.

    The new file is written beside the folder of descriptors, unless an earlier run wrote it.
    """
    import keras

    network = load_model(model)
    has_whitening = any(layer.name == "whitening" for layer in network.layers)
    end = network.get_layer("whitening").input if has_whitening else network.output
    if dim is not None and dim > end.shape[-1]:
        raise ArgumentError(f"--dim must be at most {end.shape[-1]}, the network's dimensions, got {dim}")
    if not has_whitening:
        return model
    path = described.with_name(f"{described.name}-{model_identity(model)['sha256'][:8]}.keras")
    if not path.exists():
        save_model(keras.Model(network.input, end, name=network.name), path)
    return str(path)
