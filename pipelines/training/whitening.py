"""The whitening that a training run learns from the pairs of all tuples, at the network's size and scales of use."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.whitening.covariance import Projection

from ..descriptors.extraction import extract_descriptors
from ..descriptors.folder import read_descriptors
from ..descriptors.learn_whitening import learn_whitening
from ..descriptors.matching_pairs import MatchingPairs
from ..descriptors.options import ExtractOptions
from ..training_tuples.data import Tuples
from .train_options import TrainOptions


@dataclass(frozen=True)
class WhiteningPhotos:
    """The described photos of the tuples, from which a whitening is learned.

    Attributes:
        folder: the folder of the descriptors.
        pairs: the pairs of all tuples, including those for validation.
    """

    folder: Path
    pairs: MatchingPairs

    def learn(self, method: str, options: TrainOptions) -> Projection:
        """Learns a whitening and logs the number of photos and pairs.

        Args:
            method: the method, "lw" or "pca".
            options: the options of the run.

        Raises:
            ArgumentError: too few photos can be read.
        """
        shrinkage = self.shrinkage(options) if method == "lw" else 0.0
        return learn_whitening(self.folder, self.pairs, method, shrinkage, options.dim)

    def shrinkage(self, options: TrainOptions) -> float:
        """Returns the shrinkage of Lw for the number of photos in the pairs and the dimensions of their descriptors."""
        shards, _, _ = read_descriptors(self.folder)
        photos = len(np.union1d(self.pairs.qidxs, self.pairs.pidxs))
        return options.shrinkage_for(photos, shards[0].shape[1])


def describe_for_whitening(model: str, tuples: Tuples, options: TrainOptions, folder: Path) -> WhiteningPhotos:
    """Describes the photos at the size and scales of use, and replaces the content of the folder.

    Args:
        model: path or name of a network without whitening, in the form that `extract` accepts.
        tuples: all tuples.
        options: the options of the run.
        folder: the folder to which the descriptors are written.
    """
    described = extract_descriptors(
        ExtractOptions(
            model, options.photos, folder, size=options.test_size, scales=options.scales, mirror=options.mirror,
            edges=options.edges, precision=options.precision, replace=True,
        )
    )  # fmt: skip
    return WhiteningPhotos(described, MatchingPairs(tuples.images, tuples.qidxs, tuples.pidxs))
