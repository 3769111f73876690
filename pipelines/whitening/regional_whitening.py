"""Learns from photos a PCA whitening of the regional descriptors of R-MAC (Tolias et al. ICLR 2016)."""

import logging
from collections.abc import Sequence
from typing import Any

from keras_retrieval.whitening.covariance import Moments, Projection, fit_pca

from ..descriptors.describer import DescribeFn, describe_photos
from ..descriptors.learn_whitening import WhiteningError
from ..files.progress import progress
from ..photos.reader import PhotoError
from ..photos.reading import Reading

log = logging.getLogger("keras_retrieval")


def learn_regional_whitening(network: Any, names: Sequence[str], reading: Reading) -> Projection:
    """Learns a PCA whitening of the L2-normalised descriptors of R-MAC's regions.

    Only the mean and covariance are accumulated, batch by batch; the regional descriptors are not stored.

    Args:
        network: a keras.Model with regional pooling such as R-MAC. If the network already whitens its regions, the
            whitening is learned from the regional descriptors before that whitening.
        names: the names of the photos, relative to `reading.folder`. Photos that cannot be read are left out.
        reading: the folder of the photos and the options for reading them.

    Returns:
        The mean and the projection matrix of the whitening, see `keras_retrieval.whitening.Projection`.

    Raises:
        WhiteningError: no photo has a regional descriptor.
        ValueError: the network has no regional pooling, or there are too few regions.
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
        for found in describe_photos(_describer(network), sorted(shapes), reading.read, reading.readers):
            rows = found.rows.reshape(-1, dimensions)
            moments.add(rows[(rows != 0).any(axis=1)])
            left_out |= found.left_out
            advance(len(found.keys) + len(found.left_out))
    if not moments.count:
        first = next((f"; the first: {name}: {reason}" for name, reason in left_out.items()), "")
        raise WhiteningError(f"none of the {len(names)} photos has a region to learn from{first}")
    used = len(names) - len(left_out)
    log.info(f"regional-pca: learned from {moments.count:,} regions of {used:,} of {len(names):,} photos")
    return fit_pca(moments)


def _describer(network: Any) -> DescribeFn:
    """Returns a function that maps photos (B, H, W, 3) uint8 to the unwhitened descriptors of R regions, (B, R D)."""
    import tensorflow as tf

    from keras_retrieval.networks.regional import unwhitened_regions

    regions = unwhitened_regions(network)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def describe(images: Any) -> Any:
        return tf.reshape(regions(images).vectors, (tf.shape(images)[0], -1))

    return lambda images: describe(images).numpy()
