"""The work folder of `reconstruct` and `clean`: a new one, or one started with the same photos and options."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.durable import FolderError, check_outside, read_json, write_file

OPTIONS = "options.json"


def open_work(work: Path, photos: Path, extraction: Mapping[str, Any]) -> None:
    """Creates the work folder, or checks that its features were extracted with the same options.

    Args:
        work: path of the work folder.
        photos: folder of the photos.
        extraction: dict of the options of feature extraction; stored in options.json.

    Raises:
        FolderError: `work` was started with other options, contains something else, or is inside the photos' folder.
    """
    check_outside(work, photos)
    path = work / OPTIONS
    if path.exists():
        begun = read_json(path)
        if begun != extraction:
            options = " ".join(f"--{name} {value}" for name, value in begun.items())
            raise FolderError(f"{work} was started with {options}: use the same options, or name another folder")
        return
    if work.exists() and (not work.is_dir() or any(work.iterdir())):
        raise FolderError(f"{work} contains something else: name another folder")
    work.mkdir(parents=True, exist_ok=True)
    write_file(path, json.dumps(extraction))
