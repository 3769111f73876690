"""How well a network under training finds photos it never learns from: a collection's figures, before and after."""

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

Mean = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Examination:
    """A collection on which networks are compared, described as in use.

    Attributes:
        truth: of the collection.
        photos: their folder.
        output: the folder for descriptors.
        size: longest side in pixels.
        scales: as `evaluate` takes them.
        precision: of the trunk, "float32" or "bfloat16".
        mirror: join mirrored photos.
        edges: the kind of edge maps, see `edges.edge_map`; "" for photos.
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
        """Describes the collection with a network, given as `evaluate` takes it; what OUTPUT/NAME holds is done anew.

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
        """`describe` with a network as it is in memory."""
        path = self.output / name / "network.keras"
        save_model(network, path)
        return self.describe(str(path), name)

    def score(self, collection: Collection, whitening: Projection | None = None, dim: int | None = None) -> Mean:
        """The figures of a described collection: setting -> figure -> value.

        Args:
            collection: from `describe`.
            whitening: applied to all rows first, as the network with it inside would.
            dim: the dimensions that the whitening keeps.
        """
        rows, queries = collection.rows, collection.queries
        if whitening is not None:
            rows, queries = whitening.apply(rows, dim), whitening.apply(queries, dim)
        depth = min(DEPTHS.get(self.truth.protocol, len(rows)), len(rows))
        indexes, _ = Ranker([rows], [], progress).rank(queries, depth)
        return score(self.truth, collection.ranks(np.array(indexes)))["mean"]

    def forget(self, name: str) -> None:
        """Removes what `describe` wrote."""
        shutil.rmtree(self.output / name, ignore_errors=True)


def examination(
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
) -> Examination:
    """Reads a collection's ground truth; see `datasets.load_ground_truth` for the errors."""
    truth = load_ground_truth(dataset, photos, gnd)
    if truth.partial:
        print(f"{truth.name} is {truth.partial}")
    return Examination(truth, photos, output, size, scales, precision, mirror, edges)


def headline(mean: Mean) -> tuple[str, float]:
    """The one figure by which epochs are compared, with its name: the medium or only setting's first."""
    setting = "medium" if "medium" in mean else next(iter(mean))
    name, value = next(iter(mean[setting].items()))
    return (name if setting == "all" else f"{name} {setting}"), float("nan") if value is None else value


def rows_of(scores: dict[str, Mean]) -> dict[str, dict[str, float | None]]:
    """One row per network: every setting's first figure, or all figures of a collection with one setting."""
    table = {}
    for network, mean in scores.items():
        if len(mean) == 1:
            table[network] = next(iter(mean.values()))
        else:
            firsts = {setting: next(iter(figures.items())) for setting, figures in mean.items()}
            table[network] = {f"{setting} {name}": value for setting, (name, value) in firsts.items()}
    return table
