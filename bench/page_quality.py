"""Measures the ranking with liked and disliked photos, and the purity of stacks, on real photos.

    python -m bench.page_quality [--work work/page]

Needs the photos and ground truths of bench.photos.DATA. Descriptors are those of VGG16-GeM at 320 px, and are kept in
the work folder.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench.photos import DATA, network_file
from bench.record import recorded
from export.search_page.feedback import combined
from export.search_page.grouping import Neighbours, candidates, group, neighbour_count
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from pipelines.evaluation.ground_truth import GroundTruth, PhotoList
from pipelines.evaluation.oxford_paris import oxford5k, roxford5k

SIZE = 320
OXFORD, SCENES = DATA / "eval" / "oxford_mini" / "jpg", DATA / "photos"
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
LIKED, DISLIKED, JUDGED = (0, 1, 3, 5), (1, 3, 5, 10), 50
ONE_PLACE = ("castle_p30", "entry_p10", "fountain_p11")


def described(photos: Path, work: Path) -> tuple[list[str], np.ndarray]:
    """Names and descriptors (N, D) of the photos of a folder."""
    folder = work / (photos.name if photos != OXFORD else "oxford_mini")
    if not folder.exists():
        extract(str(network_file(None, "vgg16_gem", work)), photos, folder, size=SIZE)
    shards, names, _ = read_descriptors(folder)
    return list(names), np.concatenate([np.asarray(shard, np.float32) for shard in shards])


def average_precision(order: Sequence[int], relevant: set[int], ignored: set[int]) -> float:
    """The average precision (0 to 1) of a ranking without the ignored rows; NaN if no relevant row is left."""
    hits, total, rank = 0, 0.0, 0
    for row in order:
        if row not in ignored:
            rank += 1
            if row in relevant:
                hits += 1
                total += hits / rank
    return total / len(relevant - ignored) if relevant - ignored else float("nan")


def feedback_map(rows: np.ndarray, truth: GroundTruth, names: list[str], liked: int, disliked: int) -> np.ndarray:
    """The mAP in percent of the photos that were not judged, for each of WEIGHTS.

    Args:
        rows: descriptors (N, D).
        truth: ground truth; all its photos are in `names`.
        names: names of the N photos.
        liked: number of true photos among the JUDGED nearest that are liked.
        disliked: number of false photos among them that are disliked.
    """
    row_of = {name: row for row, name in enumerate(names)}
    results = []
    for number, name in enumerate(truth.queries):
        sets = [truth.positives[number], *([truth.hard[number]] if len(truth.hard) else []), truth.junk[number]]
        *wanted, junk = ({row_of[truth.database[row]] for row in rows_of} for rows_of in sets)
        own = row_of[name]
        relevant = set().union(*wanted) - {own}
        if not relevant:
            continue
        shown = [row for row in np.argsort(-(rows @ rows[own]), kind="stable").tolist() if row != own][:JUDGED]
        like = [row for row in shown if row in relevant][:liked]
        unlike = [row for row in shown if row not in relevant | junk][:disliked]
        ignored = junk | {*like, *unlike, own}
        queries = (combined(rows[[own, *like]], rows[unlike], weight) for weight in WEIGHTS)
        rankings = (np.argsort(-(rows @ query), kind="stable").tolist() for query in queries)
        results.append([average_precision(order, relevant, ignored) for order in rankings])
    return 100 * np.nanmean(results, axis=0)


def stack_purity(rows: np.ndarray, same: Callable[[int, int], bool | None]) -> tuple[int, int, int, int]:
    """Numbers of photos in stacks, of stacks, and of pairs in one stack that show one object, and another one.

    Args:
        rows: descriptors (N, D), L2-normalised.
        same: function that returns whether two photos show one object; None if that is unknown.
    """
    products = rows @ rows.T
    np.fill_diagonal(products, -np.inf)
    ids = np.argsort(-products, axis=1, kind="stable")[:, : neighbour_count(len(rows))]
    neighbours = Neighbours(ids, np.maximum(1 - np.take_along_axis(products, ids, 1), 0).astype(np.float32))
    photos = candidates(neighbours)
    rows_of = np.full(len(rows), -1)
    rows_of[photos] = np.arange(len(photos))
    groups = group(neighbours, rows[photos], rows_of)
    right = wrong = 0
    for number in range(len(groups.copies)):
        members = np.flatnonzero(groups.number == number).tolist()
        known = [same(a, b) for place, a in enumerate(members) for b in members[:place]]
        right, wrong = right + known.count(True), wrong + known.count(False)
    return int((groups.number >= 0).sum()), len(groups.copies), right, wrong


def same_landmark(truth: GroundTruth, names: list[str]) -> Callable[[int, int], bool | None]:
    """Makes a function for `stack_purity` from Oxford's ground truth, in which most photos have no landmark."""
    row_of = {name: row for row, name in enumerate(names)}
    shows: list[set[str]] = [set() for _ in names]
    unclear: list[set[str]] = [set() for _ in names]
    for number, name in enumerate(truth.queries):
        landmark = Path(name).stem.rsplit("_", 1)[0]
        shows[row_of[name]].add(landmark)
        for row in (*truth.positives[number], *truth.hard[number]):
            shows[row_of[truth.database[row]]].add(landmark)
        for row in truth.junk[number]:
            unclear[row_of[truth.database[row]]].add(landmark)

    def same(a: int, b: int) -> bool | None:
        if shows[a] & shows[b]:
            return True
        doubt = shows[a] & unclear[b] or unclear[a] & shows[b] or unclear[a] & unclear[b]
        return None if doubt or not (shows[a] or shows[b]) else False

    return same


def main() -> None:
    """Measures, and writes docs/measured/page-feedback.json and page-stacks.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/page"), help="folder of the descriptors")
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    command = "python -m bench.page_quality"
    names, rows = described(OXFORD, work)
    listed = PhotoList(OXFORD)
    truths = [make(listed, DATA / "gnd" / f"gnd_{make.__name__}.pkl") for make in (roxford5k, oxford5k)]
    with recorded("page-feedback", command) as add:
        for truth in truths:
            cases = [feedback_map(rows, truth, names, liked, disliked) for liked in LIKED for disliked in DISLIKED]
            found = [f"{value:.1f}" for value in np.mean(cases, axis=0)]
            add({"mean mAP of 16 cases": truth.name, **dict(zip(map(str, WEIGHTS), found, strict=True))})
    scenes, scene_rows = described(SCENES, work)
    folders = [Path(name).parts[0] for name in scenes]
    place = [ONE_PLACE[0] if folder in ONE_PLACE else folder for folder in folders]
    with recorded("page-stacks", command) as add:
        for label, descriptors, same in (
            ("oxford_mini", rows, same_landmark(truths[0], names)),
            ("172 photos of 11 scenes", scene_rows, lambda a, b: place[a] == place[b]),
        ):
            stacked, count, right, wrong = stack_purity(descriptors, same)
            share = f"{100 * right / (right + wrong):.1f} %"
            add(
                {
                    "photos": label,
                    "in stacks": stacked,
                    "stacks": count,
                    "pairs known": right + wrong,
                    "one object": share,
                }
            )


if __name__ == "__main__":
    main()
