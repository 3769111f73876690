"""Scores of a network during training, on a collection that is not used for training."""

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

log = logging.getLogger("keras_retrieval")

Mean = dict[str, dict[str, float | None]]
"""Mean scores: setting -> metric -> mean over the queries."""


@dataclass(frozen=True)
class CollectionScorer:
    """Scores networks on a collection, at the size and scales at which the trained network will be used.

    Attributes:
        truth: the ground truth.
        photos: folder of the photos.
        output: folder to which descriptors are written.
        size: longest side of the photos, in pixels.
        scales: the scales, in the form of the option --scales of `evaluate`.
        precision: the precision of the trunk, "float32" or "bfloat16".
        mirror: whether a photo's descriptor also includes its mirror image.
        edges: kind of edge maps to describe, see `photos.edges`; "" describes photos.
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
        """Describes the collection with a network and writes the descriptors to OUTPUT/NAME, which is replaced.

        Args:
            model: path or name of the network, in the form that `evaluate` accepts.
            name: name of the folder of descriptors.

        Raises:
            OSError: the descriptors cannot be written.
        """
        folder = self.output / name
        folder.mkdir(parents=True, exist_ok=True)
        for queries in folder.glob("queries-*.npy"):
            queries.unlink()
        options = ExtractOptions(
            model, self.photos, folder, size=self.size, scales=self.scales, precision=self.precision,
            mirror=self.mirror, edges=self.edges, replace=True,
        )  # fmt: skip
        return describe_collection(self.truth, options)

    def describe_now(self, network: Any, name: str) -> Collection:
        """Describes the collection with a network in memory; otherwise like `describe`."""
        path = self.output / name / "network.keras"
        save_model(network, path)
        return self.describe(str(path), name)

    def score(self, collection: Collection, whitening: Projection | None = None, dim: int | None = None) -> Mean:
        """Computes the scores of a described collection.

        Args:
            collection: the collection from `describe`.
            whitening: a whitening to apply to all descriptors first, as a network with the whitening inside does.
            dim: number of dimensions that the whitening keeps; None for all.

        Returns:
            A dict setting -> metric -> mean over the queries.
        """
        rows, queries = collection.rows, collection.queries
        if whitening is not None:
            rows, queries = whitening.apply(rows, dim), whitening.apply(queries, dim)
        depth = min(DEPTHS.get(self.truth.protocol, len(rows)), len(rows))
        indexes, _ = Ranker([rows], [], progress).rank(queries, depth)
        return score(self.truth, collection.ranks(np.array(indexes)))["mean"]

    def remove_descriptors(self, name: str) -> None:
        """Removes the files that `describe` wrote."""
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
    """Reads the ground truth of a collection and returns its scorer.

    The arguments are those of `datasets.load_ground_truth`, which also lists the errors, and the attributes of
    CollectionScorer.
    """
    truth = load_ground_truth(dataset, photos, gnd)
    if truth.partial:
        log.info("%s is %s", truth.name, truth.partial)
    return CollectionScorer(truth, photos, output, size, scales, precision, mirror, edges)


def headline(mean: Mean) -> tuple[str, float]:
    """Returns name and value of the metric that compares epochs: the first one of the medium or only setting."""
    setting = "medium" if "medium" in mean else next(iter(mean))
    name, value = next(iter(mean[setting].items()))
    return (name if setting == "all" else f"{name} {setting}"), float("nan") if value is None else value


def rows_of(scores: dict[str, Mean]) -> dict[str, dict[str, float | None]]:
    """Returns a table, one row per network: the first metric of each setting, or all metrics of the only setting."""
    table = {}
    for network, mean in scores.items():
        if len(mean) == 1:
            table[network] = next(iter(mean.values()))
        else:
            firsts = {setting: next(iter(figures.items())) for setting, figures in mean.items()}
            table[network] = {f"{setting} {name}": value for setting, (name, value) in firsts.items()}
    return table
