"""What a training changes on collections that it has not seen: mAP with paired bootstrap intervals of the difference.

    python -m bench.transfer NETWORK.keras .. --against PRETRAINED.keras .. [--objects [NAME=]FOLDER ..]
        [--dataset NAME=PHOTOS ..] [--gnd FILE] [--same FOLDER,FOLDER ..] [--distractors FOLDER] [--each]
        [--work FOLDER] [--size 1024] [--scales 1] [--precision float32] [--resamples 10000] [--name transfer]

A collection is a folder with a sub-folder of photos for each object (--objects), in which each photo is searched for
among the others, or a dataset of `keras-retrieval evaluate` (--dataset). The networks are .keras files, with or without
a whitening. Each is compared with that network of --against which has the highest mAP on the collection, such as the
pretrained network without whitening, with PCA and with Lw. The path of a network that contains {object} stands for
one network per object, which was trained without the object, and which answers the queries of this object only.

The differences of the average precision of the same queries are drawn with replacement: single queries, or whole
objects with all their queries, which do not assume that the queries of one object are independent. An object with many
photos has many queries: "mAP of objects" is the mean of the objects' mAP, in which each object counts alike. Its
difference is that from the network of --against in which this mean is highest. Descriptors are computed once and kept
in --work; a large network is described sooner with --precision bfloat16, for all networks alike. --each adds the rows
of each object.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.record import recorded
from keras_retrieval import metrics
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.rankings import rank_by_descriptors
from pipelines.files.components import connected
from pipelines.files.durable import fingerprint
from pipelines.networks.files import model_identity
from pipelines.networks.precision import PRECISIONS
from pipelines.photos.intake import list_photos
from pipelines.photos.object_folders import find_objects

OBJECT = "{object}"


class Collection(NamedTuple):
    """A collection on which networks are compared.

    Attributes:
        name: its name in the table.
        photos: the folder of its photos.
        truth: its queries and their relevant photos.
        objects: the object of each query.
    """

    name: str
    photos: Path
    truth: GroundTruth
    objects: list[str]


class Describing(NamedTuple):
    """How the photos of a collection are described.

    Attributes:
        distractors: folder of photos that are added to the database; None for none.
        work: folder in which descriptors are kept.
        size: longest side of the photos in pixels.
        scales: scales of the photos, separated by commas.
        precision: the precision of the networks, one of `PRECISIONS`.
    """

    distractors: Path | None
    work: Path
    size: int
    scales: str
    precision: str = "float32"


class Interval(NamedTuple):
    """The mean of paired differences, and the limits between which 95 % of the resampled means lie."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.low:+.1f} to {100 * self.high:+.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="trained networks, .keras files; {object} stands for an object")
    parser.add_argument(
        "--against", nargs="+", required=True, help="networks of which the best on a collection is compared with"
    )
    parser.add_argument("--objects", nargs="+", default=[], help="[NAME=]FOLDER with a sub-folder for each object")
    parser.add_argument("--dataset", nargs="+", default=[], help="NAME=PHOTOS, a dataset of `evaluate`")
    parser.add_argument("--gnd", type=Path, help="ground truth of --dataset; if not given, beside its photos")
    parser.add_argument("--same", nargs="+", default=[], help="FOLDER,FOLDER of --objects that show one object")
    parser.add_argument("--distractors", type=Path, help="folder of photos to add to the photos of --objects")
    parser.add_argument("--each", action="store_true", help="add a row for each object")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-transfer",
        help="folder for the descriptors",
    )
    parser.add_argument("--size", type=int, default=1024, help="longest side of the photos in pixels")
    parser.add_argument("--scales", default="1", help="scales of the photos, separated by commas")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="precision of the networks")
    parser.add_argument("--resamples", type=int, default=10_000, help="resamples of the bootstrap")
    parser.add_argument("--name", default="transfer", help="name of the file of results in docs/measured")
    arguments = parser.parse_args()
    collections = [folder_of_objects(one, arguments.same) for one in arguments.objects]
    collections += [published(one, arguments.gnd) for one in arguments.dataset]
    if not collections:
        parser.error("give a collection: --objects or --dataset")
    with recorded(arguments.name) as add:
        for collection in collections:
            distractors = arguments.distractors if collection.truth.drop_query else None
            how = Describing(distractors, arguments.work, arguments.size, arguments.scales, arguments.precision)
            before = {network: average_precisions(network, collection, how) for network in arguments.against}
            after = {network: average_precisions(network, collection, how) for network in arguments.networks}
            for row in rows(collection, before, after, arguments.resamples, arguments.each):
                add(row)


def folder_of_objects(given: str, same: Sequence[str] = ()) -> Collection:
    """Makes a collection of a folder of objects, in which each photo of an object with two is a query.

    Args:
        given: the folder, or NAME=FOLDER.
        same: objects that are one, each a list of their names separated by commas.
    """
    name, _, folder = given.rpartition("=")
    photos = Path(folder)
    united = {one: names.split(",")[0] for names in same for one in names.split(",")}
    found = find_objects(list_photos(photos), photos, "folders")
    of_photo = {photo: united.get(one, one) for photo, one in found.of_photo.items()}
    objects, database = list(of_photo.values()), list(of_photo)
    rows = {one: np.flatnonzero(np.array(objects) == one) for one in objects}
    queries = [row for row, one in enumerate(objects) if len(rows[one]) > 1]
    truth = GroundTruth(
        name or photos.name,
        "map",
        database,
        [database[row] for row in queries],
        [np.setdiff1d(rows[objects[row]], [row]) for row in queries],
        drop_query=True,
    )
    return Collection(truth.name, photos, truth, [objects[row] for row in queries])


def published(given: str, gnd: Path | None = None) -> Collection:
    """Makes a collection of a dataset; queries that share a relevant photo show one object.

    Args:
        given: NAME=PHOTOS.
        gnd: the file of its ground truth; None for the one beside the photos.
    """
    name, _, folder = given.partition("=")
    truth = load_ground_truth(name, Path(folder), gnd)
    relevant = [np.concatenate(rows).tolist() for rows in zip(truth.positives, truth.hard, strict=True)]
    edges = [(("query", query), ("photo", row)) for query, found in enumerate(relevant) for row in found]
    groups = connected([("query", query) for query in range(len(relevant))] + [edge[1] for edge in edges], edges)
    of_query = {number: group for group, nodes in enumerate(groups) for kind, number in nodes if kind == "query"}
    return Collection(name, Path(folder), truth, [str(of_query[query]) for query in range(len(relevant))])


def average_precisions(network: str, collection: Collection, how: Describing) -> dict[str, np.ndarray]:
    """Computes the average precision of each query in each setting of a collection.

    Args:
        network: path of a .keras file; with {object} the path of one network per object.
        collection: the collection.
        how: how its photos are described.

    Returns:
        A dict from the setting, such as "all" or "medium", to the average precision of each query.
    """
    if OBJECT not in network:
        return _average_precisions(network, collection, how)
    objects = np.array(collection.objects)
    joined: dict[str, np.ndarray] = {}
    for one in dict.fromkeys(collection.objects):
        for setting, ap in _average_precisions(network.replace(OBJECT, one), collection, how).items():
            joined.setdefault(setting, np.full(len(objects), np.nan))[objects == one] = ap[objects == one]
    return joined


def _average_precisions(network: str, collection: Collection, how: Describing) -> dict[str, np.ndarray]:
    photos = (str(collection.photos), str(how.distractors))
    folder = how.work / fingerprint(model_identity(network), *photos, how.size, how.scales, how.precision)
    options = ExtractOptions(
        network, collection.photos, folder, size=how.size, scales=how.scales, precision=how.precision
    )
    ranks = rank_by_descriptors(collection.truth, options, how.distractors, []).ranks
    return {setting: metrics.retrieval(ranks, *labels).ap for setting, labels in collection.truth.settings().items()}


def rows(
    collection: Collection,
    before: Mapping[str, Mapping[str, np.ndarray]],
    after: Mapping[str, Mapping[str, np.ndarray]],
    resamples: int = 10_000,
    each: bool = False,
) -> list[dict[str, str | int]]:
    """Makes the rows of a collection's table.

    Args:
        collection: the collection.
        before: dict from a network that is compared with to its result of `average_precisions`.
        after: the same of the networks that are compared with the best of these.
        resamples: number of resamples of the bootstrap.
        each: whether to add a row for each object.
    """
    found: list[dict[str, str | int]] = []
    objects = np.array(collection.objects)
    for setting in next(iter(before.values())):
        name = collection.name if setting == "all" else f"{collection.name} {setting}"
        best = max(before, key=lambda network: np.nanmean(before[network][setting]))
        base = before[best][setting]
        best_of_objects = max(before, key=lambda network: np.nanmean(_of_objects(before[network][setting], objects)))
        base_of_objects = _of_objects(before[best_of_objects][setting], objects)
        for network, settings in {**before, **after}.items():
            differences = settings[setting] - base
            known = np.isfinite(differences)
            one = bootstrap(differences[known], None, resamples)
            by_object = bootstrap(differences[known], objects[known], resamples)
            of_objects = _of_objects(settings[setting], objects)
            alike = bootstrap((of_objects - base_of_objects)[np.isfinite(of_objects)], None, resamples)
            found.append(
                {
                    "collection": name,
                    "network": _label(network, best),
                    "queries": int(known.sum()),
                    "mAP": f"{100 * settings[setting][known].mean():.1f}",
                    "difference": "" if network == best else f"{100 * one.mean:+.1f}",
                    "95 % over queries": "" if network == best else str(one),
                    "95 % over objects": "" if network == best else str(by_object),
                    "mAP of objects": f"{100 * np.nanmean(of_objects):.1f}",
                    "their difference": "" if network == best_of_objects else f"{100 * alike.mean:+.1f}",
                    "their 95 %": "" if network == best_of_objects else str(alike),
                }
            )
            if not each or network in before:
                continue
            for name_of_one in dict.fromkeys(collection.objects):
                chosen = known & (objects == name_of_one)
                if chosen.any():
                    part = bootstrap(differences[chosen], None, resamples)
                    found.append(
                        {
                            "collection": f"{name}, {name_of_one}",
                            "network": _label(network, best),
                            "queries": int(chosen.sum()),
                            "mAP": f"{100 * settings[setting][chosen].mean():.1f}",
                            "difference": f"{100 * part.mean:+.1f}",
                            "95 % over queries": str(part),
                            "95 % over objects": "",
                            "mAP of objects": "",
                            "their difference": "",
                            "their 95 %": "",
                        }
                    )
    return found


def _of_objects(ap: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Computes the mean of each object's queries that are known, NaN for an object without one."""
    of = {one: ap[(objects == one) & np.isfinite(ap)] for one in dict.fromkeys(objects)}
    return np.array([found.mean() if len(found) else np.nan for found in of.values()])


def _label(network: str, best: str) -> str:
    label = "/".join(Path(network).parts[-2:])
    return f"{label} (compared with)" if network == best else label


def bootstrap(
    differences: np.ndarray, groups: np.ndarray | None = None, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Computes the percentile interval of the mean of paired differences (Efron, Tibshirani 1993).

    Args:
        differences: the difference of each query, (Q,).
        groups: the object of each query, (Q,), so that whole objects are drawn; None to draw single queries.
        resamples: number of resamples.
        seed: random seed.

    Returns:
        The mean, and the limits at 2.5 % and 97.5 % of the means of the resamples.
    """
    numbers = np.arange(len(differences)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, counts = np.bincount(numbers, differences), np.bincount(numbers)
    rng = np.random.default_rng(seed)
    drawn = (rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums))) for _ in range(resamples))
    means = np.array([draws @ sums / (draws @ counts) for draws in drawn])
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean(differences)), float(low), float(high))


if __name__ == "__main__":
    main()
