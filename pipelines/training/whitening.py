"""The whitening at the end of a training run, learned at the size and scales of use from the pairs of all tuples."""

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
    """The photos of the tuples as a network describes them, to learn a whitening from.

    Attributes:
        folder: the descriptors, from `extract`.
        pairs: all of the tuples, those for validation too.
    """

    folder: Path
    pairs: MatchingPairs

    def learn(self, method: str, options: TrainOptions) -> Projection:
        """Learns "lw" or "pca" and logs from how much.

        Raises:
            ValueError: too few of the photos can be read.
        """
        shrinkage = self.shrinkage(options) if method == "lw" else 0.0
        return learn_whitening(self.folder, self.pairs, method, shrinkage, options.dim)

    def shrinkage(self, options: TrainOptions) -> float:
        """Lw's shrinkage for these photos."""
        shards, _, _ = read_descriptors(self.folder)
        photos = len(np.union1d(self.pairs.qidxs, self.pairs.pidxs))
        return options.shrinkage_for(photos, shards[0].shape[1])


def describe_for_whitening(model: str, tuples: Tuples, options: TrainOptions, folder: Path) -> WhiteningPhotos:
    """Describes the photos as in use; what the folder holds is done anew.

    Args:
        model: without a whitening, given as `extract` takes it.
        tuples: all.
        options: of the run.
        folder: of descriptors, to write.
    """
    described = extract_descriptors(
        ExtractOptions(
            model, options.photos, folder, size=options.test_size, scales=options.scales, mirror=options.mirror,
            edges=options.edges, precision=options.precision, replace=True,
        )
    )  # fmt: skip
    return WhiteningPhotos(described, MatchingPairs(tuples.images, tuples.qidxs, tuples.pidxs))
