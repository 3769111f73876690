"""Measures searches of small objects with `extract --crops`: recall, query time and bytes a photo.

    python -m bench.crops [--network alexnet_gem] [--size 320] [--seeds 3] [--crops 1,2,3] [--work work/crops]

Needs the photos and ground truths of bench.photos.DATA. Objects are cut from the photos of nine places, shrunk to 4 to
10 % of the area and pasted into photos of Oxford Buildings at random positions. The queries are other photos of the
same places. Recall@10 is the share of the photos with the object, PASTED for each place, among the first ten.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.photos import DATA, network_file
from bench.record import recorded
from export.folder_index.folder_index import FolderIndex
from export.indexes.index import index
from export.indexes.update import update
from pipelines.descriptors.describer import describe_photos, describer
from pipelines.descriptors.extract import extract
from pipelines.evaluation.evaluate import evaluate
from pipelines.networks.files import load_model
from pipelines.photos.reading import Reading

OXFORD, SCENES = DATA / "eval" / "oxford_mini" / "jpg", DATA / "photos"
ONE_PLACE = ("castle_p30", "entry_p10", "fountain_p11")  # of these, only the first is used
PASTED, QUERIES, K = 5, 5, 10
SHARES = (0.04, 0.10)  # of the photo's area
CUT = 0.8  # of the sides of the photo that is cut
REPEATS = 5


@dataclass(frozen=True)
class Pasted:
    """Photos with small objects, which replace those of OXFORD of the same names.

    Attributes:
        photos: folder of the photos.
        queries: photos of places, by name of the place.
        positives: names of the photos into which objects of each place were pasted.
    """

    photos: Path
    queries: dict[str, list[Path]]
    positives: dict[str, list[str]]


def paste(folder: Path, seed: int) -> Pasted:
    """Writes a folder with the photos of OXFORD into which objects are pasted."""
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    free = chance.permutation(sorted(path.name for path in OXFORD.iterdir())).tolist()
    queries, positives = {}, {}
    for scene in sorted(path for path in SCENES.iterdir() if path.is_dir() and path.name not in ONE_PLACE[1:]):
        views = chance.permutation(sorted(str(path) for path in scene.iterdir() if path.is_file())).tolist()
        count = min(PASTED, len(views) // 2)
        positives[scene.name] = [free.pop() for _ in range(count)]
        queries[scene.name] = [Path(view) for view in views[count : count + QUERIES]]
        for name, view in zip(positives[scene.name], views, strict=False):
            picture = _with_object(OXFORD / name, Path(view), chance)
            if not (folder / name).exists():  # an earlier run wrote the same, and described it
                picture.save(folder / name, quality=92)
    return Pasted(folder, queries, positives)


def _with_object(photo: Path, view: Path, chance: np.random.Generator) -> Image.Image:
    ground, cut = Image.open(photo).convert("RGB"), Image.open(view).convert("RGB")
    margins = [round(side * (1 - CUT) / 2) for side in cut.size]
    cut = cut.crop((margins[0], margins[1], cut.width - margins[0], cut.height - margins[1]))
    area = chance.uniform(*SHARES) * ground.width * ground.height
    width = round((area * cut.width / cut.height) ** 0.5)
    cut = cut.resize((width, round(width * cut.height / cut.width)), Image.Resampling.LANCZOS)
    left, top = (int(chance.integers(0, max(1, a - b))) for a, b in zip(ground.size, cut.size, strict=True))
    ground.paste(cut, (left, top))
    return ground


def query_rows(network: Path, queries: Sequence[Path], size: int) -> tuple[np.ndarray, float]:
    """Descriptors of the queries (Q, D), and the median time in ms to read and describe one of them."""
    model = load_model(str(network))
    describe, reading = describer(model), Reading(Path("/"), size)
    keyed = sorted((reading.shape(str(path)), number) for number, path in enumerate(queries))
    rows: dict[int, np.ndarray] = {}
    for batch in describe_photos(describe, keyed, lambda number: reading.read(str(queries[number]))):
        rows |= dict(zip(batch.keys, batch.rows, strict=True))
    times = []
    for path in queries[:20]:
        started = time.perf_counter()
        describe(reading.read(str(path))[None])
        times.append(time.perf_counter() - started)
    return np.stack([rows[number] for number in range(len(queries))]), 1000 * float(np.median(times))


def query_ms(opened: FolderIndex, rows: np.ndarray, k: int) -> float:
    """Median time in ms of a search for one descriptor."""
    times = []
    for _ in range(REPEATS):
        for row in rows:
            started = time.perf_counter()
            opened.search(row[None], k)
            times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def recall(opened: FolderIndex, pasted: Pasted, rows: np.ndarray, exact: bool) -> float:
    """Recall@10 in percent: the mean over queries of the share of their positives among the first ten photos."""
    places = [place for place, views in pasted.queries.items() for _ in views]
    found = []
    for place, hits in zip(places, opened.search(rows, K, exact=exact), strict=True):
        wanted = pasted.positives[place]
        found.append(len(set(hits.names) & set(wanted)) / len(wanted))
    return 100 * float(np.mean(found))


def build(plain: Path, pasted: Path, place: Path) -> FolderIndex:
    """Indexes the photos of OXFORD, replaces those with objects as the step `update` does, and builds it again."""
    index(plain, str(place), replace=True)
    update(str(place), add=pasted, compact=True)
    return FolderIndex(place)


def main() -> None:
    """Measures, and writes docs/measured/crops.json and crops-oxford.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="alexnet_gem", help="network of keras_retrieval.build")
    parser.add_argument("--size", type=int, default=320, help="longest side of a photo in pixels")
    parser.add_argument("--seeds", type=int, default=3, help="number of sets of pasted objects")
    parser.add_argument("--crops", default="1,2,3", help="levels to measure, separated by semicolons")
    parser.add_argument("--work", type=Path, default=Path("work/crops"), help="folder of photos and descriptors")
    options = parser.parse_args()
    work = options.work / f"{options.network}-{options.size}"
    work.mkdir(parents=True, exist_ok=True)
    network = work / "model.keras"
    if not network.exists():  # a new file would be another network, whose descriptors are made again
        network_file(None, options.network, work)
    settings = {"size": options.size, "precision": "float32"}
    levels = ["", *options.crops.split(";")]
    command = f"python -m bench.crops --network {options.network} --size {options.size} --crops '{options.crops}'"
    with recorded("crops-oxford", command) as add:
        for crops in levels:
            results = evaluate(
                str(network),
                dataset="roxford5k",
                photos=OXFORD,
                gnd=DATA / "gnd" / "gnd_roxford5k.pkl",
                output=work / f"oxford-{_label(crops)}",
                crops=crops,
                copies=False,
                **settings,
            )
            figures = {setting: f"{100 * values['mAP']:.1f}" for setting, values in results["mean"].items()}
            add({"crops": crops or "none", **figures, "bytes per photo": results["bytes_per_photo"]})
    with recorded("crops", command) as add:
        measured: dict[str, list[list[float]]] = {crops: [] for crops in levels}
        facts: dict[str, dict[str, Any]] = {}
        for seed in range(options.seeds):
            pasted = paste(work / f"photos-{seed}", seed)
            views = [view for some in pasted.queries.values() for view in some]
            rows, describing = query_rows(network, views, options.size)
            for crops in levels:
                plain = work / f"oxford-{_label(crops)}" / "database"
                described = work / f"described-{seed}-{_label(crops)}"
                extract(str(network), pasted.photos, described, crops=crops, **settings)
                opened = build(plain, described, work / f"index-{_label(crops)}")
                both = [recall(opened, pasted, rows, exact) for exact in (False, True)]
                measured[crops].append([*both, *(query_ms(opened, rows, k) for k in (K, 100)), describing])
                facts[crops] = dict(opened.facts)
        first = np.mean(measured[""], axis=0)
        for crops in levels:
            mean, least = np.mean(measured[crops], axis=0), np.min(measured[crops], axis=0)
            add(
                {
                    "crops": crops or "none",
                    "rows a photo": f"{facts[crops]['row_count'] / facts[crops]['count']:.1f}",
                    "index bytes a photo": round(facts[crops]["configuration"]["bytes_per_photo"]),
                    "recall@10": f"{mean[0]:.1f}",
                    "lowest of the sets": f"{least[0]:.1f}",
                    "exact search": f"{mean[1]:.1f}",
                    "search, ms": f"{mean[2]:.2f}",
                    "times": f"{mean[2] / first[2]:.2f}",
                    "of 100, ms": f"{mean[3]:.2f}",
                    "times of 100": f"{mean[3] / first[3]:.2f}",
                    "with description, times": f"{(mean[2] + mean[4]) / (first[2] + first[4]):.2f}",
                }
            )


def _label(crops: str) -> str:
    return crops.replace(",", "") or "none"


if __name__ == "__main__":
    main()
