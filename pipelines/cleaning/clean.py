"""The step `clean`: removes unrelated photos from folders of landmarks, `keras-retrieval clean PHOTOS OUT`."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from keras_retrieval.errors import printable

from ..command.options import takes
from ..files.durable import write_file, write_names
from ..files.remote import named, place_text
from ..files.shards import LEFT_OUT, write_left_out
from ..photos.intake import Intake
from ..photos.landmark_folders import CLEANING, CLEANING_VERSION, KEPT
from ..photos.object_boxes import write_boxes
from ..photos.object_folders import find_objects
from ..sfm.colmap import load_colmap
from ..sfm.work_folder import open_work
from .landmark import CleaningError, Landmark, clean_landmark
from .options import CleanOptions
from .page import cleaning_page

BOXES, PAGE, WORK = "boxes.json", "index.html", "landmarks"


@takes(CleanOptions)
def clean(options: CleanOptions) -> Path:
    """Removes unrelated photos from folders of landmarks, and finds the landmark's box in each photo that is kept.

    The method is that of Gordo et al. (ECCV 2016). In each folder, pairs of photos are verified geometrically: all
    pairs or, with --neighbours, those with most visual words in common. The largest group of photos that are connected
    by verified pairs is kept. The landmark's box in each of these photos is found by diffusion of the matched regions
    over the graph of verified pairs. The step writes to the folder OUT:

    - kept.txt: names of the photos that are kept, one JSON string per line
    - left_out.json: the reason for each photo that is not kept
    - boxes.json: the landmark's box in each photo that is kept, from which `train-proposals` learns
    - cleaning.json: the folder of the photos, the options, and the counts of each landmark
    - index.html: the photos with their boxes, and the photos that are left out
    - landmarks: the COLMAP database of each landmark, from which an interrupted run continues

    A landmark that is finished is not processed again. If photos were added, only their pairs are matched. `tuples`
    and `classify` accept OUT as a source of photos, and use those that are kept.

    Returns:
        The path of the folder, `out`.

    Raises:
        ArgumentError: an option is out of range.
        PhotoFolderError: `photos` does not exist or contains no photo, or its folders do not show what is a landmark.
        FolderError: `out` was started with other options or contains something else.
        ReconstructionError: a photo has changed since an earlier run.
        CleaningError: no photo would be kept.
        RemoteError: the storage of photos at an address does not answer, or refuses.
        MissingExtraError: COLMAP is not installed.
    """
    photos, out = options.photos, options.out
    intake = options.take(photos)
    print(intake.account, flush=True)
    objects = find_objects(intake.photos, photos, options.objects, least=1)
    print(objects.account, flush=True)
    open_work(out, photos, options.resumed())
    load_colmap()
    found = []
    for number, (name, names) in enumerate(objects.photos.items(), start=1):
        work = out / WORK / quote(name, safe="")
        found.append(clean_landmark(name, photos, names, work, options, intake.states_of(names)))
        print(f"{number} of {len(objects.photos)}: {_summary(found[-1])}", flush=True)
    outside = dict.fromkeys(objects.outside, "outside of the folders of landmarks")
    _write(out, intake, found, outside, options)
    return out


def _summary(landmark: Landmark) -> str:
    return (
        f"{printable(landmark.name)}: {len(landmark.kept)} photos kept, {len(landmark.left_out)} left out, "
        f"{landmark.verified} of {landmark.pairs} pairs verified"
    )


def _write(
    out: Path, intake: Intake, found: Sequence[Landmark], outside: dict[str, str], options: CleanOptions
) -> None:
    photos = intake.folder
    left_out = {name: reason for landmark in found for name, reason in landmark.left_out.items()} | outside
    kept = [name for landmark in found for name in landmark.kept]
    if not kept:
        name, reason = next(iter(left_out.items()))
        raise CleaningError(
            f"none of the {len(left_out)} photos in {named(photos)} is kept; the first: {name}: {reason}"
        )
    report = {
        "version": CLEANING_VERSION,
        "photos": place_text(photos),
        "options": options.facts(arguments=False),
        "landmarks": [
            {
                "name": landmark.name,
                "kept": len(landmark.kept),
                "left_out": len(landmark.left_out),
                "pairs": landmark.pairs,
                "verified": landmark.verified,
                "steps": landmark.steps,
            }
            for landmark in found
        ],
    }
    write_boxes(out / BOXES, {name: [box] for landmark in found for name, box in landmark.boxes.items()})
    write_left_out(out / LEFT_OUT, intake.reasons | left_out)
    write_names(out / KEPT, kept)
    write_file(out / PAGE, cleaning_page(found, photos, options.facts(arguments=False)))
    write_file(out / CLEANING, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    landmarks = sum(1 for landmark in found if landmark.kept)
    print(f"{len(kept)} of {len(kept) + len(left_out)} photos kept, in {landmarks} of {len(found)} landmarks")
    print(f"boxes: {out / BOXES}\npage: {(out / PAGE).resolve()}")
