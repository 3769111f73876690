"""What query-time methods gain, and whether they do harm where an object has few photos.

    python -m bench.query_time_methods NETWORK.keras [--objects [NAME=]FOLDER ..] [--few [NAME=]FOLDER ..]
        [--dataset NAME=PHOTOS ..] [--gnd FILE] [--distractors FOLDER] [--methods "auto alphaqe alphaqe:50 .."]
        [--work FOLDER] [--size 1024] [--name query-time-methods]

A collection is a folder with a sub-folder of photos for each object (--objects), the same with 2 to 4 photos of each
object, drawn at random (--few), as in Holidays, or a dataset of `keras-retrieval evaluate` (--dataset). Distractors are
added to the photos of --few. The table has the mAP of the ranking without methods, and what each method adds to it.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from bench.record import recorded
from bench.transfer import Collection, folder_of_objects, published
from keras_retrieval import metrics
from keras_retrieval.ranking.methods import METHODS, Step, parse
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.rankings import rank_by_descriptors

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
    parser.add_argument("--size", type=int, default=1024, help="longest side of the photos in pixels")
    parser.add_argument("--name", default="query-time-methods", help="name of the file of results in docs/measured")
    arguments = parser.parse_args()
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
