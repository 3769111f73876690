"""Folders of landmarks cleaned of what they do not show: `keras-retrieval clean PHOTOS OUT`.

As Gordo et al. ECCV 2016 clean the Landmarks of Babenko et al.: in each folder all pairs of photos are verified by
geometry, the largest group of photos that verified pairs connect is kept, and the landmark's box in each of them is
found by carrying matched regions over the group's graph (`box_diffusion`). OUT gets

- kept.txt: names of the photos that are kept, one JSON string a line;
- left_out.json: name -> reason, of all others;
- boxes.json: name -> the landmark's box, see `boxes`, for region proposals to learn from;
- cleaning.json: the folder of the photos, the options, the counts of each landmark;
- index.html: photos with their boxes, and those left out;
- landmarks: COLMAP's databases, one for each landmark, from which a killed run goes on.

`tuples` and `classify` take OUT for the photos that are kept.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from ..files.durable import write_file, write_names
from ..photos.landmark_folders import CLEANING, CLEANING_VERSION, KEPT, by_landmark
from ..photos.object_boxes import write_boxes
from ..photos.reader import list_photos
from ..sfm.clusters import LEAST_INLIERS
from ..sfm.colmap import check_seed, load_colmap
from ..sfm.photos import begin
from .landmark import Landmark, Options, clean_landmark
from .page import cleaning_page

BOXES, LEFT_OUT, PAGE, WORK = "boxes.json", "left_out.json", "index.html", "landmarks"


def clean(
    photos: Annotated[Path, typer.Argument(help="Folder with a folder of photos for each landmark.")],
    out: Annotated[Path, typer.Argument(help="Folder for the lists, the boxes, the page and the work.")],
    *,
    neighbours: Annotated[
        int, typer.Option(help="Photos each photo is matched with, chosen by visual words; 0: all of its landmark.")
    ] = 0,
    min_inliers: Annotated[int, typer.Option(help="Matches of one geometry that verify a pair, 15 or more.")] = 20,
    min_photos: Annotated[int, typer.Option(help="Landmarks whose largest group has fewer are dropped.")] = 3,
    features: Annotated[int, typer.Option(help="SIFT features of a photo at most.")] = 8192,
    size: Annotated[int, typer.Option(help="Longest side in pixels at which features are looked for.")] = 1024,
    seed: Annotated[int, typer.Option(help="Of random samples.")] = 0,
) -> Path:
    """Throws wrong photos out of folders of landmarks, and finds the landmark's box in those that stay.

    A second run redoes nothing; a killed one goes on where it was; photos that were added cost their own pairs.

    Returns:
        OUT.

    Raises:
        ValueError: an option is out of range, OUT was begun otherwise, a photo has changed, or nothing is left.
        ImportError: COLMAP is not installed.
    """
    options = Options(neighbours, min_inliers, min_photos, features, size, seed)
    _check(options)
    load_colmap()
    landmarks = by_landmark(list_photos(photos), photos)
    begin(out, photos, {"features": features, "size": size})
    found = []
    for number, (name, names) in enumerate(landmarks.items(), start=1):
        found.append(clean_landmark(name, photos, names, out / WORK / quote(name, safe=""), options))
        print(f"{number} of {len(landmarks)}: {_said(found[-1])}", flush=True)
    _write(out, photos, found, options)
    return out


def _check(options: Options) -> None:
    for option, least in (("neighbours", 0), ("min_photos", 2), ("features", 1), ("size", 1)):
        if getattr(options, option) < least:
            raise ValueError(f"--{option.replace('_', '-')} is at least {least}, not {getattr(options, option)}")
    if options.min_inliers < LEAST_INLIERS:
        raise ValueError(f"--min-inliers is at least {LEAST_INLIERS}, COLMAP's own bound, not {options.min_inliers}")
    check_seed(options.seed)


def _said(landmark: Landmark) -> str:
    return (
        f"{landmark.name}: {len(landmark.kept)} photos kept, {len(landmark.left_out)} left out, "
        f"{landmark.verified} of {landmark.pairs} pairs verified"
    )


def _write(out: Path, photos: Path, found: Sequence[Landmark], options: Options) -> None:
    left_out = {name: reason for landmark in found for name, reason in landmark.left_out.items()}
    kept = [name for landmark in found for name in landmark.kept]
    if not kept:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"none of the {len(left_out)} photos in {photos} is kept; the first: {name}: {reason}")
    report = {
        "version": CLEANING_VERSION,
        "photos": str(photos.resolve()),
        "options": asdict(options),
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
    write_file(out / LEFT_OUT, json.dumps(left_out, indent=1, ensure_ascii=False) + "\n")
    write_names(out / KEPT, kept)
    write_file(out / PAGE, cleaning_page(found, photos, asdict(options)))
    write_file(out / CLEANING, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    landmarks = sum(1 for landmark in found if landmark.kept)
    print(f"{len(kept)} of {len(kept) + len(left_out)} photos kept, of {landmarks} of {len(found)} landmarks")
    print(f"boxes: {out / BOXES}\npage: {(out / PAGE).resolve()}")
