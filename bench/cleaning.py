"""Precision and recall of `clean` on folders of landmarks to which wrong photos are added, and accuracy of its boxes.

    python -m bench.cleaning [--work FOLDER] [--photos FOLDER] [--wrong 0.4] [--features 4096] [--size 1024]

The number of wrong photos that are added to a landmark's folder is --wrong times the number of its own photos. Half of
them show other landmarks, and half are from a collection of other buildings. The table contains the numbers of right
and wrong photos that `clean` keeps. Its boxes are measured on synthetic photos from `keras-retrieval sample-photos`,
whose true boxes are known. The cleaned folders are stored in --work.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.photos import DATA
from bench.record import recorded
from pipelines.cleaning.clean import clean
from pipelines.files.durable import read_names
from pipelines.photos.intake import list_photos
from pipelines.photos.object_boxes import read_boxes
from pipelines.photos.object_folders import find_objects
from pipelines.samples.sample_photos import sample_photos

SAME_PLACE = {"castle_p30", "entry_p10", "fountain_p11"}  # folders of photos of one courtyard, which may match
OTHERS = DATA / "eval" / "oxford_mini" / "jpg"
WRONG = "wrong-"  # prefix of the names of wrong photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-cleaning",
        help="folder for the links to right and wrong photos, and for the cleaned folders",
    )
    parser.add_argument(
        "--photos", type=Path, default=DATA / "photos", help="folder with one sub-folder of photos per landmark"
    )
    parser.add_argument("--wrong", type=float, default=0.4, help="number of wrong photos per right one")
    parser.add_argument("--features", type=int, default=4096, help="maximum number of SIFT features per photo")
    parser.add_argument("--size", type=int, default=1024, help="longest side of the photos in pixels")
    parser.add_argument(
        "--synthetic", type=Path, help="folder of synthetic photos from sample-photos; made if not given"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    options = {"features": arguments.features, "size": arguments.size}
    drawn = arguments.synthetic or sample_photos(arguments.work / "drawn")
    measure_boxes(drawn, clean(drawn, arguments.work / "drawn-cleaned", **options))
    if arguments.photos.is_dir():
        mixed = mix(arguments.photos, arguments.work / "mixed", arguments.wrong)
        measure_kept(mixed, clean(mixed, arguments.work / "mixed-cleaned", **options))
    else:
        print(f"{arguments.photos} does not exist: wrong photos are not measured")


def mix(photos: Path, mixed: Path, share: float) -> Path:
    """Makes a folder with one sub-folder per landmark, which contains links to its photos and to wrong photos.

    Args:
        photos: folder with one sub-folder of photos per landmark.
        mixed: folder to make; existing links in it are kept.
        share: number of wrong photos per right one; each landmark gets at least two.

    Returns:
        `mixed`.
    """
    landmarks = find_objects(list_photos(photos), photos).photos
    others = list_photos(OTHERS) if OTHERS.is_dir() else []
    rng = np.random.default_rng(0)
    for landmark, names in landmarks.items():
        same = SAME_PLACE if landmark in SAME_PLACE else {landmark}
        foreign = [photos / name for other, some in landmarks.items() if other not in same for name in some]
        count = max(2, round(share * len(names)))
        from_others = [OTHERS / others[row] for row in rng.choice(len(others), count // 2, False)] if others else []
        wrong = [foreign[row] for row in rng.choice(len(foreign), count - len(from_others), False)] + from_others
        for path in [photos / name for name in names]:
            link(mixed / landmark / path.name, path)
        for number, path in enumerate(wrong):
            link(mixed / landmark / f"{WRONG}{number:02}-{path.name}", path)
    return mixed


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(target.resolve())


def measure_kept(mixed: Path, cleaned: Path) -> None:
    kept = set(read_names(cleaned / "kept.txt"))
    counts: dict[str, np.ndarray] = {}
    for landmark, names in find_objects(list_photos(mixed), mixed, "folders").photos.items():
        wrong = [name for name in names if Path(name).name.startswith(WRONG)]
        right = [name for name in names if name not in set(wrong)]
        counts[landmark] = np.array([len(right), len(kept & set(right)), len(wrong), len(kept & set(wrong))])
    counts["all"] = sum(counts.values(), start=np.zeros(4, int))
    with recorded("cleaning") as add:
        for landmark, (right, kept_right, wrong, kept_wrong) in counts.items():
            kept_of = {"right photos kept": f"{kept_right} of {right}", "wrong photos kept": f"{kept_wrong} of {wrong}"}
            add({"landmark": landmark, **kept_of})
    right, kept_right, _, kept_wrong = counts["all"].tolist()
    print(f"precision {kept_right / max(1, kept_right + kept_wrong):.3f}, recall {kept_right / right:.3f}")


def measure_boxes(drawn: Path, cleaned: Path) -> None:
    truth, found = read_boxes(drawn), read_boxes(cleaned / "boxes.json")
    overlaps = [overlap(found[name][0], truth[name][0]) for name in found]
    with recorded("cleaning-boxes") as add:
        add(
            {
                "synthetic photos kept": f"{len(found)} of {len(truth)}",
                "mean IoU of boxes": f"{np.mean(overlaps):.3f}",
                "IoU above 0.5": f"{100 * np.mean(np.array(overlaps) > 0.5):.1f} %",
                "least IoU": f"{min(overlaps):.2f}",
            }
        )


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the intersection over union of two boxes (left, top, right, bottom)."""
    sides = [max(0.0, min(one[far], other[far]) - max(one[near], other[near])) for near, far in ((0, 2), (1, 3))]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return sides[0] * sides[1] / (sum(areas) - sides[0] * sides[1])


if __name__ == "__main__":
    main()
