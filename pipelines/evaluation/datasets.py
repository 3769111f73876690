"""The collections of the field, each as it is published, and a user's own: names and answers, restricted to the photos.

| dataset | photos | ground truth (`gnd`) |
|---|---|---|
| roxford5k, rparis6k | photos by their published names, in any sub-folder | gnd_roxford5k.pkl, gnd_rparis6k.pkl |
| oxford5k, paris6k | the same | gnd_oxford5k.pkl, gnd_paris6k.pkl, or the folder with the *_query.txt files |
| holidays | 100000.jpg ...: a query ends in 00 and shares the digits before with its answers | - |
| ukbench | ukbench00000.jpg ...: four in a row, or one folder of four photos each, show one object | - |
| places, tokyo247 | sub-folders database and queries*, UTM in the names: @east@north@...@.jpg | or a CSV |
| flickr15k | sub-folders photos/CLASS and sketches | a JSON file: sketch -> classes |
| a file NAME.json | names below the photos' folder | the file itself, see `own` |

Nothing is downloaded: where a file is missing, the message says where it is published.
"""

import difflib
from collections.abc import Callable
from pathlib import Path

from .ground_truth import GroundTruth, GroundTruthError, Photos
from .object_sets import flickr15k, holidays, own, ukbench
from .oxford_paris import oxford5k, paris6k, roxford5k, rparis6k
from .places import places, tokyo247

DATASETS: dict[str, Callable[[Photos, Path | None], GroundTruth]] = {
    "roxford5k": roxford5k,
    "rparis6k": rparis6k,
    "oxford5k": oxford5k,
    "paris6k": paris6k,
    "holidays": holidays,
    "ukbench": ukbench,
    "places": places,
    "tokyo247": tokyo247,
    "flickr15k": flickr15k,
}


def load_ground_truth(dataset: str, photos: Path, gnd: Path | None = None) -> GroundTruth:
    """Reads a collection's ground truth and restricts it to the photos at hand.

    Args:
        dataset: a name of `DATASETS`, or the path of a JSON file in the form of `objects.own`.
        photos: the folder of the photos, database and queries.
        gnd: the ground truth's file or folder where the collection has one; by default it is looked for by its
            published name in and beside `photos`.

    Returns:
        The ground truth; its `partial` says what is missing.

    Raises:
        GroundTruthError: an unknown dataset; a missing or damaged file; photos that do not fit it.
        ValueError: `photos` holds no photos.
    """
    if dataset.lower().endswith(".json"):
        return own(Photos(photos), Path(dataset))
    if dataset not in DATASETS:
        near = difflib.get_close_matches(dataset, DATASETS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise GroundTruthError(f"no dataset '{dataset}'.{hint} Known: {', '.join(DATASETS)}, or a file NAME.json")
    return DATASETS[dataset](Photos(photos), gnd)
