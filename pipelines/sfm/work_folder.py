"""Opens the work folder of the commands `reconstruct` and `clean`, which is new or was started by an earlier run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.durable import FolderError, check_outside, read_json, write_file
from .brought_matches import BROUGHT

OPTIONS, DATABASE = "options.json", "database.db"


def open_work(work: Path, photos: Path, extraction: Mapping[str, Any]) -> None:
    """Creates a work folder, or checks that an existing work folder was started with the same options.

    Args:
        work: the path of the work folder.
        photos: the folder of the photos.
        extraction: the options of feature extraction, serialisable as JSON. A new work folder stores them in
            options.json.

    Raises:
        FolderError: options.json is damaged, features were extracted with other options, `work` is not empty although
            no run was started in it, or it is inside `photos`.
    """
    check_outside(work, photos)
    path = work / OPTIONS
    if path.exists():
        begun = read_options(path)
        if "feature_count" in extraction and isinstance(begun.get("features"), int):  # of a run before 0.1.0
            begun = {"features": "sift", "feature_count": begun.pop("features"), **begun}
        if "sha256" not in begun and {**begun, "sha256": extraction.get("sha256")} == extraction:  # likewise
            begun = dict(extraction)
            write_file(path, json.dumps(begun))
        # Of a `reconstruct` whose extractor cannot be loaded, nothing was extracted.
        if begun != extraction and "feature_count" in extraction and not (work / DATABASE).exists():
            write_file(path, json.dumps(extraction))
        elif begun != extraction:
            raise FolderError(f"{work} was started with {_difference(begun, extraction)}, or name another folder")
        return
    if work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise FolderError(f"{work} contains something else: name another folder")
    work.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(extraction))


def _difference(begun: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a run was started with, and what to do."""
    sums = begun.get("sha256"), now.get("sha256")
    if all(sums) and {**begun, "sha256": sums[1]} == now:
        return (
            f"another version of the extractor {begun['features']} (its SHA-256 was {str(sums[0])[:12]}.., and is "
            f"{str(sums[1])[:12]}.. now): put that file back"
        )
    if begun.get("features") == BROUGHT != now.get("features"):
        return "--database: name that file"
    options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in begun.items() if name != "sha256")
    return f"{options}: use the same options"


def read_options(path: Path) -> dict[str, Any]:
    """Reads the options of feature extraction that a run stored.

    Args:
        path: the path of the file options.json.

    Raises:
        FolderError: the file is damaged.
    """
    try:
        options = read_json(path)
    except FolderError:  # whose advice is to remove the folder
        options = None
    if isinstance(options, dict):
        count = options.get("feature_count" if isinstance(options.get("features"), str) else "features")
        if all(type(number) is int and number > 0 for number in (count, options.get("size"))):
            return options
    raise FolderError(
        f"{path} is damaged (it lacks the options features or size): put it back, or run the step in a new folder"
    )
