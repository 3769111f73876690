"""What query-time methods gain, and whether they do harm where an object has few photos.

    python -m bench.query_time_methods NETWORK.keras [--objects [NAME=]FOLDER ..] [--few [NAME=]FOLDER ..]
        [--dataset NAME=PHOTOS ..] [--gnd FILE] [--distractors FOLDER] [--methods "auto alphaqe alphaqe:50 .."]
        [--draws 0] [--seed 0] [--work FOLDER] [--size 1024] [--name query-time-methods]

A collection is a folder with a sub-folder of photos for each object (--objects), the same with 2 to 4 photos of each
object, drawn at random (--few), as in Holidays, or a dataset of `keras-retrieval evaluate` (--dataset). Distractors are
added to the photos of --few. The table has the mAP of the ranking without methods, and what each method adds to it.

With --draws, many such collections are drawn from --few together: pairs, triples, quadruples or 2 to 4 photos of some
of the objects, with none to many of the distractors, 24 to 800 photos in all. The table then has what each method adds
on average, at least, and in how many of the draws it takes more than 0.5.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.record import recorded
from bench.transfer import Collection, folder_of_objects, published
from keras_retrieval import metrics
from keras_retrieval.ranking.methods import METHODS, Ranker, Step, parse
from pipelines.descriptors.extraction import extract_descriptors
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.rankings import rank_by_descriptors
from pipelines.files.durable import fingerprint

PUBLISHED = ["dba:10", "rankdba:20", "alphaqe:50", "aqe:10", "superglobal:400:9", "diffusion:0:50"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", help="a .keras file")
    parser.add_argument("--objects", nargs="+", default=[], help="[NAME=]FOLDER with a sub-folder for each object")
    parser.add_argument("--few", nargs="+", default=[], help="the same; 2 to 4 photos of each object are taken")
    parser.add_argument("--dataset", nargs="+", default=[], help="NAME=PHOTOS, a dataset of `evaluate`")
    parser.add_argument("--gnd", type=Path, help="ground truth of --dataset; if not given, beside its photos")
    parser.add_argument("--distractors", type=Path, help="folder of photos to add to the photos of --few")
    parser.add_argument(
        "--methods", default=" ".join(["auto", *METHODS, "dba,alphaqe", *PUBLISHED]), help="separated by blanks"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-query-time",
        help="folder for the descriptors",
    )
    parser.add_argument("--draws", type=int, default=0, help="number of collections drawn from --few")
    parser.add_argument("--seed", type=int, default=0, help="random seed of --draws")
    parser.add_argument("--size", type=int, default=1024, help="longest side of the photos in pixels")
    parser.add_argument("--name", default="query-time-methods", help="name of the file of results in docs/measured")
    arguments = parser.parse_args()
    if arguments.draws:
        record_draws(arguments)
        return
    collections = [(folder_of_objects(given), None) for given in arguments.objects]
    collections += [(few_photos(folder_of_objects(given)), arguments.distractors) for given in arguments.few]
    collections += [(published(given, arguments.gnd), None) for given in arguments.dataset]
    if not collections:
        parser.error("give a collection: --objects, --few or --dataset")
    texts = arguments.methods.split()
    steps = {text: parse(text) for text in texts}
    with recorded(arguments.name) as add:
        for collection, distractors in collections:
            folder = arguments.work / collection.photos.name
            options = ExtractOptions(
                arguments.network, collection.photos, folder, size=arguments.size, precision="float32"
            )
            plain = scores(collection, options, distractors, [])
            rows = {
                setting: {"collection": name_of(collection, setting), "plain": value}
                for setting, value in plain.items()
            }
            for text in texts:
                for setting, value in scores(collection, options, distractors, steps[text]).items():
                    rows[setting][text] = f"{value - plain[setting]:+.1f}"
            for row in rows.values():
                add(row | {"plain": f"{row['plain']:.1f}"})


def record_draws(arguments: argparse.Namespace) -> None:
    """Describes the photos of --few and the distractors once, draws collections of them, and records the gains."""
    rows: list[np.ndarray] = []
    objects: list[np.ndarray] = []
    for given in arguments.few:
        collection = folder_of_objects(given)
        described = descriptors_of(collection.photos, arguments)
        rows.append(np.array([described[name] for name in collection.truth.queries]))
        objects.append(np.array([f"{collection.name}/{one}" for one in collection.objects]))
    others = (
        np.array(list(descriptors_of(arguments.distractors, arguments).values())) if arguments.distractors else None
    )
    drawn = draw(np.concatenate(rows), np.concatenate(objects), others, arguments.draws, arguments.seed)
    texts = arguments.methods.split()
    gains: dict[str, list[list[float]]] = {}
    plain: dict[str, list[float]] = {}
    for kind, descriptors, labels in drawn:
        before = few_score(descriptors, labels, "")
        plain.setdefault(kind, []).append(before)
        gains.setdefault(kind, []).append([few_score(descriptors, labels, text) - before for text in texts])
    with recorded(arguments.name) as add:
        for kind, found in gains.items():
            values = np.array(found)
            facts = {"collections": f"{len(values)}, {kind}", "plain": f"{np.mean(plain[kind]):.1f}"}
            for name, line in (("mean", values.mean(axis=0)), ("least", values.min(axis=0))):
                add(facts | {"gain": name} | {text: f"{one:+.2f}" for text, one in zip(texts, line, strict=True)})
            worse = (values < -0.5).sum(axis=0)
            add(facts | {"gain": "draws below -0.5"} | {text: int(one) for text, one in zip(texts, worse, strict=True)})


def descriptors_of(photos: Path, arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    """Describes the photos of a folder, or reads their descriptors from the folder of an earlier run."""
    folder = arguments.work / "draws" / f"{photos.name}-{fingerprint(str(photos.resolve()))[:6]}"
    options = ExtractOptions(arguments.network, photos, folder, size=arguments.size, precision="float32")
    shards, names, _ = read_descriptors(extract_descriptors(options))
    return dict(zip(names, np.concatenate(shards), strict=True))


def draw(
    rows: np.ndarray, objects: np.ndarray, others: np.ndarray | None, count: int, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Draws collections of few photos of each object.

    Args:
        rows: descriptors of the photos of objects, (N, D).
        objects: the object of each, (N,).
        others: descriptors of photos of no object, (M, D); None for none.
        count: number of collections.
        seed: random seed.

    Yields:
        The kind of the collection; its descriptors, (n, D); and their objects, (n,), each photo of no object another.
    """
    rng = np.random.default_rng(seed)
    of_object = [np.flatnonzero(objects == one) for one in dict.fromkeys(objects)]
    for number in range(count):
        kind = ("pairs", "triples", "quadruples", "2 to 4 photos")[number % 4]
        chosen = rng.permutation(len(of_object))[: rng.integers(12, max(13, len(of_object) + 1))]
        parts = [
            rng.permutation(of_object[one])[: rng.integers(2, 5) if number % 4 == 3 else 2 + number % 4]
            for one in chosen
        ]
        some = np.concatenate(parts)
        labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        most = 0 if others is None else min(len(others), 800 - len(some))
        added = int(rng.choice([0, 0, 60, 150, 400, 800]))
        extra = rows[:0] if others is None else others[rng.permutation(len(others))[: max(0, min(added, most))]]
        yield (
            f"{kind}, {'with' if len(extra) else 'without'} others",
            np.concatenate([rows[some], extra]),
            np.concatenate([labels, len(parts) + np.arange(len(extra))]),
        )


def few_score(rows: np.ndarray, labels: np.ndarray, text: str) -> float:
    """Computes the mAP in percent of all photos of which there is another, each searched for among the others."""
    same = [np.setdiff1d(np.flatnonzero(labels == label), [row]) for row, label in enumerate(labels)]
    asked = [row for row, matches in enumerate(same) if len(matches)]
    ranks, _ = Ranker(rows, parse(text)).rank(rows[asked], len(rows))
    own = [np.array([row]) for row in asked]
    return 100 * float(np.mean(metrics.retrieval(ranks.T, [same[row] for row in asked], own).ap))


def few_photos(collection: Collection, seed: int = 0) -> Collection:
    """Takes 2 to 4 photos of each object of a folder of objects, at random.

    Args:
        collection: a collection of `folder_of_objects`.
        seed: random seed.
    """
    rng = np.random.default_rng(seed)
    truth = collection.truth
    of_query = dict(zip(truth.queries, collection.objects, strict=True))
    taken: list[str] = []
    for one in dict.fromkeys(collection.objects):
        photos = [photo for photo in truth.queries if of_query[photo] == one]
        taken += rng.permutation(photos)[: rng.integers(2, 5)].tolist()
    objects = np.array([of_query[photo] for photo in taken])
    same = [np.setdiff1d(np.flatnonzero(objects == one), [row]) for row, one in enumerate(objects)]
    few = GroundTruth(f"{truth.name}, 2 to 4 photos each", "map", taken, taken, same, drop_query=True)
    return Collection(few.name, collection.photos, few, objects.tolist())


def scores(
    collection: Collection, options: ExtractOptions, distractors: Path | None, steps: list[Step]
) -> dict[str, float]:
    """Computes the mAP of each setting of a collection in percent, ranked with the given methods."""
    ranks = rank_by_descriptors(collection.truth, options, distractors, steps).ranks
    settings = collection.truth.settings()
    return {
        setting: 100 * float(np.nanmean(metrics.retrieval(ranks, *labels).ap)) for setting, labels in settings.items()
    }


def name_of(collection: Collection, setting: str) -> str:
    return collection.name if setting == "all" else f"{collection.name} {setting}"


if __name__ == "__main__":
    main()
