"""Bytes per photo, recall and mAP of indexes that store descriptors with fewer bits or fewer dimensions.

    python -m bench.index_rows [--work FOLDER] [--size 320] [--network vgg16_gem] [DESCRIPTORS ..]

Those photos of revisited Oxford that are available are described at one scale, and one index with a ScaNN tree is built
for each format of the stored descriptors. The table contains the bytes per photo and the recall@10 that the index
reports, and the mAP of its rankings. For each of the folders DESCRIPTORS, rows with bytes and recall are added. The
descriptors of Oxford are stored in --work.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA, network
from bench.record import recorded
from export.index_contract.contract import Filter, NeighbourIndex
from export.indexes.index import index
from export.indexes.open_index import open_index
from pipelines.descriptors.options import ExtractOptions
from pipelines.evaluation.collection import Collection, describe_collection
from pipelines.evaluation.datasets import load_ground_truth
from pipelines.evaluation.scores import score

FORMS: list[dict[str, Any]] = [
    {},
    {"rows": "bfloat16"},
    {"rows": "int8"},
    {"rows": "int8", "soar": 0.0},
    {"dim": 128},
    {"dim": 128, "rows": "int8"},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "descriptors", type=Path, nargs="*", help="folders of descriptors, for which bytes and recall are measured"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-bench",
        help="folder in which the descriptors of Oxford are stored for the next run",
    )
    parser.add_argument("--size", type=int, default=320, help="longest side of the photos in pixels")
    parser.add_argument("--network", default="vgg16_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    collection, described = _oxford(arguments.work, arguments.size, arguments.network)
    with recorded("index-rows") as add:
        for form in FORMS:
            made = open_index(index(described, arguments.work / "index", leaves=32, replace=True, **form))
            add(_row("oxford_mini", form, made) | _scores(collection, made))
        for folder in arguments.descriptors:
            for form in FORMS:
                made = open_index(index(folder, arguments.work / "index", replace=True, **form))
                add(_row(f"{len(made):,} photos", form, made))


def _oxford(work: Path, size: int, name: str) -> tuple[Collection, Path]:
    photos = DATA / "eval" / "oxford_mini"
    truth = load_ground_truth("roxford5k", photos, DATA / "gnd" / "gnd_roxford5k.pkl")
    model = work / f"{name}.keras"
    if not model.exists():
        network(name).save(model)
    place = work / f"oxford-{name}-{size}"
    return describe_collection(truth, ExtractOptions(str(model), photos, place, size=size)), place / "database"


def _scores(collection: Collection, made: NeighbourIndex) -> dict[str, str]:
    row_of = {collection.truth.database[number]: row for row, number in enumerate(collection.numbers)}
    hits = made.search(collection.queries, len(row_of), where=Filter(row_of))
    ranking = np.array([[row_of[name] for name in one.names] for one in hits])
    mean = score(collection.truth, collection.ranks(ranking))["mean"]
    return {setting: f"{100 * mean[setting]['mAP']:.1f}" for setting in ("easy", "medium", "hard")}


def _row(collection: str, form: dict[str, Any], made: NeighbourIndex) -> dict[str, str]:
    how = made.facts["configuration"]
    options = " ".join(f"`--{key} {value}`" for key, value in form.items()) or "-"
    size = {"bytes a photo": f"{how['bytes_per_photo']:,.0f}", "recall@10": f"{how['recall']:.3f}"}
    return {"collection": collection, "index": options, **size}


if __name__ == "__main__":
    main()
