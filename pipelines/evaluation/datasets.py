"""Reads the ground truth of published and custom datasets, restricted to the photos that exist.

| dataset | photos | file of the ground truth (`gnd`) |
|---|---|---|
| roxford5k, rparis6k | photos by their published names, in any sub-folder | gnd_roxford5k.pkl, gnd_rparis6k.pkl |
| oxford5k, paris6k | as above | gnd_oxford5k.pkl, gnd_paris6k.pkl, or the folder with the *_query.txt files |
| holidays | 100000.jpg ...: a query's name ends in 00; its positives share the digits before | none |
| ukbench | ukbench00000.jpg ...: four in a row, or one folder of four photos each, show one object | none |
| places | sub-folders database and queries*, UTM in names: @east@north@zone@letter@..@.jpg | none, or a CSV |
| tokyo247 | as above, or 03814/.. and 247query_subset_v2, as published | none, a CSV, or tokyo247.mat |
| msls, msls:s2w | train_val/CITY/query and database, as published | none: tables beside the photos |
| pitts30k, pitts250k | 000/000000_pitch1_yaw1.jpg and queries_real, as published | pitts30k_test.mat or .npz |
| sfxl, sfxl:v2 | database and queries_v1, UTM in the names | none, or a CSV |
| nordland, nordland:10 | folders of seasons, with the number of the frame in the names | none, or cleanImageNames.txt |
| flickr15k | sub-folders photos/CLASS and sketches | a JSON file: sketch -> classes |
| a file NAME.json | paths below the photos' folder | the file itself, see `object_sets.custom_dataset` |

Nothing is downloaded. If a file is missing, the error message states where the file is published.
"""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..command.kinds import Reads
from ..photos.intake import Intake, take_photos
from .errors import GroundTruthError
from .ground_truth import GroundTruth, PhotoList
from .object_sets import custom_dataset, flickr15k, holidays, ukbench
from .oxford_paris import oxford5k, paris6k, roxford5k, rparis6k
from .place_archives import msls, nordland, pitts30k, pitts250k
from .places import places, sfxl, tokyo247

DATASETS: dict[str, Callable[..., GroundTruth]] = {
    "roxford5k": roxford5k,
    "rparis6k": rparis6k,
    "oxford5k": oxford5k,
    "paris6k": paris6k,
    "holidays": holidays,
    "ukbench": ukbench,
    "places": places,
    "tokyo247": tokyo247,
    "msls": msls,
    "pitts30k": pitts30k,
    "pitts250k": pitts250k,
    "sfxl": sfxl,
    "nordland": nordland,
    "flickr15k": flickr15k,
}

VARIANTS = ("msls", "nordland", "pitts30k", "pitts250k", "sfxl")
"""The datasets of which there are variants, NAME:VARIANT, such as msls:s2w or nordland:10."""


def load_ground_truth(
    dataset: str, photos: Path, gnd: Path | None = None, take: Callable[..., Intake] = take_photos
) -> GroundTruth:
    """Reads the ground truth of a dataset and restricts it to the photos that exist.

    Args:
        dataset: the name of a dataset, such as "roxford5k" (a key of `DATASETS`) or "msls:s2w" (of `VARIANTS`), or the
            path of a JSON file, see `object_sets.custom_dataset`.
        photos: folder with the photos of the database and of the queries.
        gnd: file or folder of the ground truth, for datasets that have one. None looks for a file with the published
            name in the folder `photos` and beside it.
        take: takes the photos of the folder, such as `IntakeOptions.take`.

    Returns:
        The ground truth; its attribute `partial` states how many photos and queries are missing.

    Raises:
        GroundTruthError: the dataset is unknown, its ground truth is missing or damaged, or `photos` contains no photo
            or no query of the dataset.
        PhotoFolderError: `photos` does not exist or contains no photos.
    """
    if dataset.lower().endswith(".json"):
        return custom_dataset(PhotoList(photos, take), Path(dataset))
    check_dataset("--dataset", dataset)
    name, colon, variant = dataset.partition(":")
    if colon:
        return DATASETS[name](PhotoList(photos, take), gnd, variant)
    return DATASETS[dataset](PhotoList(photos, take), gnd)


def check_dataset(label: str, value: Any) -> None:
    """The kind of the option `--dataset`: the name of a dataset or of a variant, or a JSON file that must exist.

    Raises:
        GroundTruthError: there is no such dataset or file.
    """
    if value.lower().endswith(".json"):
        Reads("file", GroundTruthError)(label, value)
        return
    name, colon, variant = value.partition(":")
    if colon and name in DATASETS and (name not in VARIANTS or not variant):
        raise GroundTruthError(f"there is no dataset '{value}': {', '.join(VARIANTS)} have variants, as in msls:s2w")
    if name not in DATASETS:
        near = difflib.get_close_matches(value, DATASETS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise GroundTruthError(
            f"there is no dataset '{value}'.{hint} It must be one of {', '.join(DATASETS)}, or a file NAME.json"
        )
