"""mAP with a linear adaptation, Lw and PCA that were learned from few photos of other objects.

    python -m bench.linear_adaptation [--work FOLDER]

All are learned from the photos of 11 scenes (172 photos, of which three scenes are one place) and measured on the
available part of revisited Oxford, whose labels nothing is chosen by, and on that of UKBench. The interval is that of
the difference of medium mAP to the network as it is: 95 %, by a paired bootstrap over queries. Descriptors are kept in
--work, so that a second run does not compute them again.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA, network
from bench.record import recorded
from keras_retrieval.metrics import retrieval
from keras_retrieval.ranking.rows import gather
from keras_retrieval.whitening.covariance import Projection, learn_lw, learn_pca, lw_shrinkage
from pipelines.descriptors.extraction import extract_descriptors
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.matching_pairs import read_pairs
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.collection import describe_collection
from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.scores import score
from pipelines.networks.files import save_model
from pipelines.whitening.adaptation import adapt_rows
from pipelines.whitening.objects import ObjectPhotos

NETWORKS = {"alexnet_gem": (512, "1,0.7071,0.5"), "vgg16_gem": (320, "1")}
ONE_PLACE = ("castle_p30", "entry_p10", "fountain_p11")
Apply = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-linear",
        help="folder in which networks and descriptors are kept for the next run",
    )
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print("nothing is measured: the photos do not exist")
        return
    with recorded("linear-adaptation") as add:
        for name in NETWORKS:
            measure(name, arguments.work, add)


def measure(name: str, work: Path, add: Callable[[dict[str, Any]], None]) -> None:
    size, scales = NETWORKS[name]
    model = work / f"{name}.keras"
    if not model.exists():
        save_model(network(name), model)
    oxford, ukbench = DATA / "eval" / "oxford_mini" / "jpg", DATA / "eval" / "ukbench_mini"
    options = ExtractOptions(str(model), oxford, work / name / "oxford", size=size, scales=scales, precision="float32")
    truth = load_ground_truth("roxford5k", oxford, DATA / "gnd" / "gnd_roxford5k.pkl")
    collection = describe_collection(truth, options)
    rows, photos = _scenes(extract_descriptors(replace(options, photos=DATA / "photos", output=work / name / "photos")))
    others, objects = _ukbench(extract_descriptors(replace(options, photos=ukbench, output=work / name / "ukbench")))
    before: np.ndarray | None = None
    for label, (apply, seconds) in _methods(rows, photos).items():
        indexes = np.argsort(-(apply(collection.queries) @ apply(collection.rows).T), axis=1, kind="stable")
        scores = score(truth, collection.ranks(indexes))
        each = np.array([query["medium"]["AP"] for query in scores["per_query"]], "float64")
        before = each if before is None else before
        add(
            {
                "network": f"{name}, {size} px, {len(scales.split(','))} scale{'s' if ',' in scales else ''}",
                "whitening": label,
                **{key: f"{100 * scores['mean'][key]['mAP']:.1f}" for key in ("easy", "medium", "hard")},
                "medium, difference": _interval(each - before),
                "ukbench": f"{100 * _mean_ap(apply(others), objects):.1f}",
                "seconds to learn": None if seconds is None else f"{seconds:.1f}",
            }
        )


def _methods(rows: np.ndarray, photos: ObjectPhotos) -> dict[str, tuple[Apply, float | None]]:
    pairs = read_pairs(DATA / "photos")
    row_of = {name: row for row, name in enumerate(photos.names)}
    q, p = (np.array([row_of[pairs.images[row]] for row in some]) for some in (pairs.qidxs, pairs.pidxs))
    shrinkage = lw_shrinkage(len(rows), rows.shape[1])
    found: dict[str, tuple[Apply, float | None]] = {"none": (lambda x: x, None)}

    def learn(label: str, make: Callable[[], Projection | None]) -> Apply:
        started = time.perf_counter()
        projection = make()
        apply: Apply = projection.apply if projection else lambda x: x
        found[label] = (apply, time.perf_counter() - started)
        return apply

    learn("Lw, as published", lambda: learn_lw(rows, q, p))
    lw = learn(f"Lw, shrinkage {shrinkage:g}", lambda: learn_lw(rows, q, p, shrinkage))
    learn("PCA", lambda: learn_pca(rows))

    def adapt(some: np.ndarray) -> Projection | None:
        learned = adapt_rows(some, photos, None, 0)
        print(learned.account)
        return learned.projection

    learn("linear", lambda: adapt(rows))
    after = learn("linear of Lw", lambda: adapt(lw(rows)))
    found["linear of Lw"] = (lambda x: after(lw(x)), found["linear of Lw"][1])
    return found


def _scenes(descriptors: Path) -> tuple[np.ndarray, ObjectPhotos]:
    shards, names, _ = read_descriptors(descriptors)
    scenes = [name.split("/")[0] for name in names]
    relevant = np.unique(scenes, return_inverse=True)[1]
    place = np.unique([ONE_PLACE[0] if scene in ONE_PLACE else scene for scene in scenes], return_inverse=True)[1]
    rows = gather(shards, np.arange(len(names)))
    return rows, ObjectPhotos(list(names), place, relevant, np.full(len(names), -1))


def _ukbench(descriptors: Path) -> tuple[np.ndarray, np.ndarray]:
    shards, names, _ = read_descriptors(descriptors)
    return gather(shards, np.arange(len(names))), np.array([int(Path(name).stem[-5:]) // 4 for name in names])


def _mean_ap(rows: np.ndarray, objects: np.ndarray) -> float:
    ranks = np.argsort(-(rows @ rows.T), axis=0, kind="stable")
    own = np.arange(len(rows))
    positives = [np.flatnonzero((objects == objects[row]) & (own != row)) for row in own]
    return retrieval(ranks, positives, [np.array([row]) for row in own]).mean_ap


def _interval(differences: np.ndarray) -> str:
    differences = 100 * differences[~np.isnan(differences)]
    drawn = np.random.default_rng(0).integers(0, len(differences), (10_000, len(differences)))
    low, high = np.percentile(differences[drawn].mean(axis=1), (2.5, 97.5))
    return f"{differences.mean():+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
