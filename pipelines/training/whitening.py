"""Learns the whitening of a training run from matching pairs, at the size and scales of the network's later use."""

from dataclasses import dataclass
from pathlib import Path

from keras_retrieval.whitening.covariance import Projection

from ..descriptors.extraction import extract_descriptors
from ..descriptors.learn_whitening import learn_whitening
from ..descriptors.matching_pairs import MatchingPairs
from ..descriptors.options import ExtractOptions
from ..training_tuples.data import Tuples
from .network import runtime_of_keras
from .train_options import TrainOptions
from .workers import ALONE, Workers


@dataclass(frozen=True)
class WhiteningPhotos:
    """The descriptors and pairs of the photos from which a whitening is learned.

    Attributes:
        folder: the folder of the photos' descriptors, as `extract` writes it.
        pairs: the matching pairs (query, positive) of all tuples, including those set aside for validation.
    """

    folder: Path
    pairs: MatchingPairs

    def learn(self, method: str, options: TrainOptions) -> Projection:
        """Learns a whitening and logs the numbers of photos and pairs.

        Args:
            method: "lw", which learns from the matching pairs, or "pca", which learns from all photos.
            options: the options of the run, of which `shrinkage`, `shift` and `dim` are used.

        Returns:
            The whitening: a shift and a projection.

        Raises:
            WhiteningError: no photo has a descriptor, or the descriptors have too many dimensions.
            ValueError: too few photos or pairs are left.
        """
        return learn_whitening(self.folder, self.pairs, method, options.shrinkage, options.dim, options.shift)


def describe_for_whitening(
    model: str, tuples: Tuples, options: TrainOptions, folder: Path, workers: Workers = ALONE
) -> WhiteningPhotos:
    """Computes the descriptors of all photos in the folder of the tuples' photos, from which a whitening is learned.

    The size and the scales of the photos are `options.test_size` and `options.scales`, at which the network will be
    used.

    Args:
        model: path of the .keras file, or name, of a network without whitening.
        tuples: all tuples.
        options: the options of the run.
        folder: the folder to which the descriptors are written; its content is replaced.
        workers: the processes that describe the photos together; all must call this function.

    Returns:
        The folder of descriptors together with the pairs of the tuples.
    """
    described = extract_descriptors(
        ExtractOptions(
            model, options.photos, folder, size=options.test_size, scales=options.scales, mirror=options.mirror,
            edges=options.edges, precision=options.precision, runtime=runtime_of_keras(), replace=True,
            engine=options.engine,
        ),
        workers if workers.count > 1 else None,
    )  # fmt: skip
    return WhiteningPhotos(described, MatchingPairs(tuples.images, tuples.qidxs, tuples.pidxs))
