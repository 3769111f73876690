"""Scores a network during training, on a collection (database, queries, ground truth) that is not trained on."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.ranking.methods import Ranker
from keras_retrieval.whitening.covariance import Projection

from ..descriptors.options import ExtractOptions
from ..evaluation.collection import Collection, describe_collection
from ..evaluation.datasets import load_ground_truth
from ..evaluation.ground_truth import GroundTruth
from ..evaluation.rankings import DEPTHS
from ..evaluation.scores import score
from ..files.progress import progress
from ..networks.files import save_model
from .network import runtime_of_keras

log = logging.getLogger("keras_retrieval")

Mean = dict[str, dict[str, float | None]]
"""Mean scores: dict from a setting to a dict from a metric, such as "mAP", to its mean over the queries.

A setting defines which photos count as relevant: "easy", "medium" and "hard" for ROxford and RParis, "all" for other
collections. An undefined mean is None.
"""


@dataclass(frozen=True)
class CollectionScorer:
    """Scores networks on a collection, at the size and scales at which the trained network will be used.

    Attributes:
        truth: the ground truth of the collection.
        photos: folder of the collection's photos.
        output: folder to which descriptors are written, in a sub-folder for each network.
        size: longest side of the photos, in pixels.
        scales: factors on the photo's size, separated by commas, such as "1,0.7071,0.5".
        precision: the precision in which the trunk computes, "float32" or "bfloat16".
        mirror: whether a photo's descriptor also includes its mirror image.
        edges: kind of edge maps that are read instead of photos, such as "sobel"; "" for photos.
    """

    truth: GroundTruth
    photos: Path
    output: Path
    size: int
    scales: str
    precision: str
    mirror: bool
    edges: str

    def describe(self, model: str, name: str) -> Collection:
        """Computes the collection's descriptors with a network and writes them to the sub-folder `name` of `output`.

        Descriptors that are already in the sub-folder are replaced.

        Args:
            model: path of a .keras or .onnx file, or the name of a network.
            name: name of the sub-folder.

        Returns:
            The collection with its descriptors.

        Raises:
            NoDescriptorsError: all descriptors are zero or not finite.
            CollectionError: a query or all photos of the database cannot be read.
            OSError: the descriptors cannot be written.
        """
        folder = self.output / name
        folder.mkdir(parents=True, exist_ok=True)
        for queries in folder.glob("queries-*.npy"):
            queries.unlink()
        options = ExtractOptions(
            model, self.photos, folder, size=self.size, scales=self.scales, precision=self.precision,
            mirror=self.mirror, edges=self.edges, runtime=runtime_of_keras(), replace=True,
        )  # fmt: skip
        return describe_collection(self.truth, options)

    def describe_now(self, network: Any, name: str) -> Collection:
        """Computes the collection's descriptors with a network in memory.

        Args:
            network: a keras.Model, which is first saved as network.keras in the sub-folder.
            name: name of the sub-folder, as for `describe`.

        Returns:
            The collection with its descriptors.

        Raises:
            NoDescriptorsError: all descriptors are zero or not finite.
            CollectionError: a query or all photos of the database cannot be read.
            OSError: the network or the descriptors cannot be written.
        """
        path = self.output / name / "network.keras"
        save_model(network, path)
        return self.describe(str(path), name)

    def score(self, collection: Collection, whitening: Projection | None = None, dim: int | None = None) -> Mean:
        """Computes the mean scores of exact search among the descriptors of a collection.

        Args:
            collection: the collection with its descriptors, from `describe` or `describe_now`.
            whitening: a whitening that is first applied to all descriptors; None for no whitening.
            dim: number of dimensions that the whitening keeps; None for all.

        Returns:
            A dict from each setting to a dict from each metric to its mean over the queries, so that
            `result["medium"]["mAP"]` is the mAP in the setting "medium". The settings are "easy", "medium" and "hard"
            for ROxford and RParis (the protocol "revisited" of the ground truth), and "all" for other collections.
        """
        rows, queries = collection.rows, collection.queries
        if whitening is not None:
            rows, queries = whitening.apply(rows, dim), whitening.apply(queries, dim)
        depth = min(DEPTHS.get(self.truth.protocol, len(rows)), len(rows))
        indexes, _ = Ranker([rows], [], progress).rank(queries, depth)
        return score(self.truth, collection.ranks(np.array(indexes)))["mean"]

    def remove_descriptors(self, name: str) -> None:
        """Removes the sub-folder `name` that `describe` wrote; files that cannot be removed are ignored."""
        shutil.rmtree(self.output / name, ignore_errors=True)


def collection_scorer(
    dataset: str,
    photos: Path,
    gnd: Path | None,
    output: Path,
    *,
    size: int,
    scales: str,
    precision: str = "float32",
    mirror: bool = False,
    edges: str = "",
) -> CollectionScorer:
    """Reads the ground truth of a collection and makes a scorer for the collection.

    Args:
        dataset: name of a published dataset, or path of a JSON file, as for `load_ground_truth`.
        photos: folder of the collection's photos.
        gnd: file or folder of the ground truth; None looks for the published file name in and beside `photos`.
        output: folder to which descriptors are written.
        size: longest side of the photos, in pixels.
        scales: factors on the photo's size, separated by commas.
        precision: the precision of the trunk, "float32" or "bfloat16".
        mirror: whether a photo's descriptor also includes its mirror image.
        edges: kind of edge maps that are read instead of photos; "" for photos.

    Raises:
        GroundTruthError: the dataset is unknown, its ground truth is missing or damaged, or `photos` contains no photo
            or no query of the dataset.
        PhotoFolderError: `photos` does not exist or contains no photos.
    """
    truth = load_ground_truth(dataset, photos, gnd)
    if truth.partial:
        log.info("%s is %s", truth.name, truth.partial)
    return CollectionScorer(truth, photos, output, size, scales, precision, mirror, edges)


def headline(mean: Mean) -> tuple[str, float]:
    """Returns the metric by which epochs are compared: the first metric of the setting "medium" or of the only setting.

    Args:
        mean: the mean scores of a network, from `CollectionScorer.score`.

    Returns:
        The name of the metric, followed by the setting if there are several ("mAP medium"), and its value, which is NaN
        if the metric is undefined.
    """
    setting = "medium" if "medium" in mean else next(iter(mean))
    name, value = next(iter(mean[setting].items()))
    return (name if setting == "all" else f"{name} {setting}"), float("nan") if value is None else value


def rows_of(scores: dict[str, Mean]) -> dict[str, dict[str, float | None]]:
    """Makes a table of the scores of several networks, with one row per network.

    Args:
        scores: dict from the name of each network to its mean scores.

    Returns:
        A dict from the name of each network to its row, a dict from column to value. The columns are the first metric
        of each setting, or all metrics if there is only one setting.
    """
    table = {}
    for network, mean in scores.items():
        if len(mean) == 1:
            table[network] = next(iter(mean.values()))
        else:
            firsts = {setting: next(iter(figures.items())) for setting, figures in mean.items()}
            table[network] = {f"{setting} {name}": value for setting, (name, value) in firsts.items()}
    return table
