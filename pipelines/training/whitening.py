"""The whitening at the end of a training run, learned at the size and scales of use from the pairs of all tuples."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_retrieval.whitening.covariance import Projection

from ..descriptors.extract import extract
from ..descriptors.folder import read_descriptors
from ..descriptors.learn_whitening import Pairs, learn
from ..training_tuples.data import Tuples
from .options import Options


@dataclass(frozen=True)
class WhiteningPhotos:
    """The photos of the tuples as a network describes them, to learn a whitening from.

    Attributes:
        folder: the descriptors, from `extract`.
        pairs: all of the tuples, those for validation too.
    """

    folder: Path
    pairs: Pairs

    def learn(self, method: str, options: Options) -> Projection:
        """Learns "lw" or "pca" and prints from how much.

        Raises:
            ValueError: too few of the photos can be read.
        """
        shrinkage = 0.0
        if method == "lw":
            shrinkage = self.shrinkage(options)
            print(f"Lw: shrinkage {shrinkage:g}, ", end="")
        else:
            print(f"{method}: ", end="")
        return learn(self.folder, self.pairs, method, shrinkage, options.dim)

    def shrinkage(self, options: Options) -> float:
        """Lw's shrinkage for these photos."""
        shards, _, _ = read_descriptors(self.folder)
        photos = len(np.union1d(self.pairs.qidxs, self.pairs.pidxs))
        return options.shrinkage_for(photos, shards[0].shape[1])


def describe_for_whitening(model: str, tuples: Tuples, options: Options, folder: Path) -> WhiteningPhotos:
    """Describes the photos as in use; what the folder holds is done anew.

    Args:
        model: without a whitening, given as `extract` takes it.
        tuples: all.
        options: of the run.
        folder: of descriptors, to write.
    """
    described = extract(
        model, options.photos, folder, size=options.test_size, scales=options.scales, mirror=options.mirror,
        edges=options.edges, precision=options.precision, replace=True,
    )  # fmt: skip
    return WhiteningPhotos(described, Pairs(tuples.images, tuples.qidxs, tuples.pidxs))
