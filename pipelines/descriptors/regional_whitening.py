"""The whitening of R-MAC's regions (Tolias et al. ICLR 2016), learned from those of photos."""

from collections.abc import Sequence
from typing import Any

from keras_retrieval.whitening.covariance import Moments, Projection, fit_pca

from ..files.progress import progress
from ..photos.reader import PhotoError
from ..photos.reading import Reading
from .describer import DescribeFn, describe_photos


def learn_regions(network: Any, names: Sequence[str], reading: Reading) -> Projection:
    """PCA of the normalised regions of photos, one at a time: no descriptor is stored.

    Args:
        network: that pools regions; a whitening that they have already does not count.
        names: of the photos; one that cannot be read does not count.
        reading: of the photos.

    Raises:
        ValueError: the network pools no regions, or too few photos can be read.
    """
    from keras_retrieval.networks.regional import regional_layer

    dimensions = regional_layer(network).input.shape[-1]
    moments, left_out = Moments(dimensions), dict[str, str]()
    shapes = []
    for name in names:
        try:
            shapes.append((reading.shape(name), name))
        except PhotoError as error:
            left_out[name] = error.reason
    with progress("whiten", len(shapes)) as advance:
        for found in describe_photos(_describer(network), sorted(shapes), reading.read):
            rows = found.rows.reshape(-1, dimensions)
            moments.add(rows[(rows != 0).any(axis=1)])
            left_out |= found.left_out
            advance(len(found.keys) + len(found.left_out))
    if not moments.count:
        name, reason = next(iter(left_out.items()), ("none", "no photo is named"))
        raise ValueError(f"none of {len(names)} photos has a region to learn from; the first: {name}: {reason}")
    print(f"learned from {moments.count:,} regions of {len(names) - len(left_out):,} of {len(names):,} photos")
    return fit_pca(moments)


def _describer(network: Any) -> DescribeFn:
    """A function (B, H, W, 3) uint8 -> (B, R D), the bare regions of each photo one behind the other."""
    import tensorflow as tf

    from keras_retrieval.networks.regional import unwhitened_regions

    regions = unwhitened_regions(network)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def describe(images: Any) -> Any:
        return tf.reshape(regions(images).vectors, (tf.shape(images)[0], -1))

    return lambda images: describe(images).numpy()
