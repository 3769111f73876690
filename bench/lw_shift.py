"""What Lw's shift and shrinkage change on collections that Lw was not learned from.

    keras-retrieval extract NETWORK.keras PHOTOS DESCRIPTORS ..      # for each collection, at one size
    python -m bench.lw_shift NAME=TUPLES.npz=DESCRIPTORS .. --objects NAME=DESCRIPTORS ..

Lw is learned from tuples and from the descriptors of their photos, with the shrinkage that `whiten` chooses by held-out
objects, and with shares of the mean as its shift. Each photo of an object with two is searched for among the other
photos of its collection, and among those of all collections together, whose means differ. A collection is a folder of
descriptors; the sub-folder of a photo is its object. Differences of the average precision of the same queries to the
network without whitening are drawn with replacement, whole objects at a time. A collection is left out where Lw was
learned from one of the same name.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.record import recorded
from bench.transfer import bootstrap
from keras_retrieval import metrics
from keras_retrieval.ranking.rows import gather
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.learn_whitening import learn_whitening
from pipelines.descriptors.matching_pairs import read_pairs

SHIFTS = (1.0, 0.75, 0.5)


class Rows(NamedTuple):
    """Descriptors, (N, D), and the object of each."""

    rows: np.ndarray
    objects: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tuples", nargs="+", help="NAME=TUPLES.npz=DESCRIPTORS to learn Lw from")
    parser.add_argument("--objects", nargs="+", required=True, help="NAME=DESCRIPTORS to search in")
    parser.add_argument("--same", nargs="+", default=[], help="FOLDER,FOLDER that show one object")
    arguments = parser.parse_args()
    united = {one: names.split(",")[0] for names in arguments.same for one in names.split(",")}
    collections = {name: read(name, Path(path), united) for name, path in (one.split("=") for one in arguments.objects)}
    with recorded("lw-shift", "python -m bench.lw_shift") as add:
        for one in arguments.tuples:
            source, path, described = one.split("=")
            others = {name: found for name, found in collections.items() if name != source}
            before = scores(others)
            pairs = read_pairs(Path(path))
            results = {"none": before}
            for shift in SHIFTS:
                lw = learn_whitening(Path(described), pairs, "lw", shift=shift)
                how = f"Lw, shift {shift:g}, shrinkage {lw.shrinkage:g}"
                results[how] = scores({name: Rows(lw.apply(x.rows), x.objects) for name, x in others.items()})
            for collection in before:
                for how, found in results.items():
                    ap, objects = found[collection]
                    interval = bootstrap(ap - before[collection][0], objects)
                    add(
                        {
                            "learned from": source,
                            "searched in": collection,
                            "whitening": how,
                            "queries": len(ap),
                            "mAP": f"{100 * ap.mean():.1f}",
                            "difference": "" if how == "none" else f"{100 * interval.mean:+.1f}",
                            "95 % over objects": "" if how == "none" else str(interval),
                        }
                    )


def read(collection: str, folder: Path, united: dict[str, str]) -> Rows:
    """Reads a folder of descriptors."""
    shards, names, _ = read_descriptors(folder)
    objects = [name.rpartition("/")[0] for name in names]
    return Rows(
        gather(shards, np.arange(len(names))), np.array([f"{collection}/{united.get(one, one)}" for one in objects])
    )


def scores(collections: dict[str, Rows]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The average precision and the object of each query, alone and among all collections."""
    rows = np.concatenate([one.rows for one in collections.values()])
    objects = np.concatenate([one.objects for one in collections.values()])
    found = {name: precisions(one, one) for name, one in collections.items()}
    together = Rows(rows, objects)
    return found | {f"{name}, among all": precisions(one, together) for name, one in collections.items()}


def precisions(queries: Rows, database: Rows) -> tuple[np.ndarray, np.ndarray]:
    """The average precision of each query with a positive; the query itself is left out of its ranking."""
    similar = queries.rows @ database.rows.T
    own = np.flatnonzero(np.isin(database.objects, np.unique(queries.objects)))
    ranks = np.argsort(-similar, axis=1, kind="stable").T
    positives = [np.flatnonzero(database.objects == one) for one in queries.objects]
    junk = [own[[row]] for row in range(len(queries.rows))]
    positives = [np.setdiff1d(all_, itself) for all_, itself in zip(positives, junk, strict=True)]
    ap = metrics.retrieval(ranks, positives, junk).ap
    return ap[np.isfinite(ap)], queries.objects[np.isfinite(ap)]


if __name__ == "__main__":
    main()
