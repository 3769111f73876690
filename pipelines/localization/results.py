"""The results of localisation in memory and in files: .json, .csv, and .txt as hloc and the benchmarks read poses."""

import csv
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..command.kinds import Writes
from ..files.durable import FolderError, write_file
from .pose import Pose

log = logging.getLogger("keras_retrieval")

ENDINGS = (".json", ".csv", ".txt")
_COLUMNS = ("photo", "localized", "x", "y", "z", "qw", "qx", "qy", "qz", "tx", "ty", "tz", "inliers", "matches")


@dataclass(frozen=True)
class Localized:
    """A query photo and its pose.

    Attributes:
        photo: the path of the photo.
        pose: its pose; None if it was not localised.
        model: the folder of the model in whose coordinates the pose is.
        neighbours: the names of the model's photos with which it was matched, the most similar first.
        reason: why it was not localised; "" if it was.
    """

    photo: Path
    pose: Pose | None = None
    model: Path | None = None
    neighbours: tuple[str, ...] = ()
    reason: str = ""


def check_output(label: str, value: Any) -> None:
    """The kind of the option --output.

    Raises:
        ArgumentError: the ending is not one of a file of poses.
        FolderError: the file cannot be written, or is part of a folder that another step made.
    """
    path = Path(value)
    if path.suffix.lower() not in ENDINGS:
        raise ArgumentError(f"{label} must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, got {value}")
    Writes("file", FolderError)(label, value)


def write_results(path: Path, found: Sequence[Localized]) -> None:
    """Writes results to a file in the format of its ending; .txt has only photos that were localised.

    A name with white space or a leading # cannot be written in .txt: these photos are left out of it, which is logged.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = {".json": _as_json, ".csv": _as_csv, ".txt": _as_text}[path.suffix.lower()](found)
    write_file(path, text)


def _as_json(found: Sequence[Localized]) -> str:
    return json.dumps({"version": 1, "photos": [_entry(one) for one in found]}, indent=1, ensure_ascii=False) + "\n"


def _entry(one: Localized) -> dict[str, Any]:
    entry: dict[str, Any] = {"photo": str(one.photo), "localized": one.pose is not None}
    if one.pose is not None:
        camera = one.pose.camera
        entry |= {
            "model": str(one.model),
            "centre": one.pose.centre,
            "rotation": one.pose.rotation,
            "translation": one.pose.translation,
            "camera": {
                "model": camera.model.name,
                "width": camera.width,
                "height": camera.height,
                "parameters": camera.params.tolist(),
            },
            "inliers": one.pose.inliers,
            "matches": one.pose.matches,
        }
    else:
        entry["reason"] = one.reason
    return entry | {"neighbours": list(one.neighbours)}


def _as_csv(found: Sequence[Localized]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_COLUMNS, "model", "reason"])
    for one in found:
        pose = one.pose
        numbers: list[Any] = [""] * (len(_COLUMNS) - 2)
        if pose is not None:
            numbers = [*pose.centre, *pose.rotation, *pose.translation, pose.inliers, pose.matches]
        table.writerow([one.photo, int(pose is not None), *numbers, one.model or "", one.reason])
    return text.getvalue()


def _as_text(found: Sequence[Localized]) -> str:
    posed = [(one.photo.name, one.pose) for one in found if one.pose is not None]
    written = [(name, pose) for name, pose in posed if len(name.split()) == 1 and not name.startswith("#")]
    if len(written) < len(posed):
        log.warning(
            f"{len(posed) - len(written):,} photos are left out of the .txt file because of white space or a leading # "
            "in their names: rename them, or write a .json or .csv file"
        )
    if len({name for name, _ in written}) < len(written):
        log.warning("photos of several folders have one name, by which the .txt file names them: use .json or .csv")
    lines = [" ".join([name, *map(repr, (*pose.rotation, *pose.translation))]) for name, pose in written]
    return "".join(f"{line}\n" for line in lines)
