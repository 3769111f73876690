"""Checks the files of a COLMAP model before COLMAP reads them, and reads the names of its images.

COLMAP ends the name of an image in images.txt at the first blank, drops the last image if the empty line after it is
missing, and can run for hours on a binary file that was cut off. So the binary files are followed here from record to
record, and the text files are copied in a form that COLMAP reads correctly, with numbers for the names.
"""

import math
import mmap
import re
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from .colmap import load_colmap
from .errors import ModelError

FILES = ("cameras", "images", "points3D")
RIG_FILES = ("rigs", "frames")  # since COLMAP 3.12
_MARK = b"\xef\xbb\xbf"
_COUNT = struct.Struct("<Q")
_CAMERA = struct.Struct("<iiQQ")
_IMAGE = struct.Struct("<I7dI")
_POINT = struct.Struct("<Q3d3Bd")
_RIG = struct.Struct("<II")
_FRAME = struct.Struct("<II7dI")
_SENSOR, _POSE = 8, 1 + 56  # bytes
_IMAGE_LINE = re.compile(rb"[ \t]*((?:[^ \t]+[ \t]+){8}[^ \t]+)(?:[ \t](.*))?")
_IMAGE_FORM = "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
_SHOWN = 60  # characters of a line in a message


def format_of(folder: Path) -> str:
    """Returns the format of a model's files, "bin" or "txt"; "bin" if the model is there in both.

    Raises:
        ModelError: a file is missing.
    """
    missing = {
        ending: [f"{name}.{ending}" for name in FILES if not (folder / f"{name}.{ending}").is_file()]
        for ending in ("bin", "txt")
    }
    ending = min(missing, key=lambda ending: len(missing[ending]))
    other = [name for name in FILES if (folder / f"{name}.{'txt' if ending == 'bin' else 'bin'}").is_file()]
    if missing[ending]:
        mixed = [name for name in missing[ending] if name.rpartition(".")[0] in other]
        where = f", although it has {mixed[0].rpartition('.')[0]} in the other format" if mixed else ""
        raise ModelError(
            f"{folder} is not a whole COLMAP model, it lacks {' and '.join(missing[ending])}{where}: copy all files of "
            "the model, or remove the folder"
        )
    rigs = [f"{name}.{ending}" for name in RIG_FILES]
    present = [name for name in rigs if (folder / name).is_file()]
    if len(present) == 1:
        lacking = next(name for name in rigs if name not in present)
        raise ModelError(f"{folder} has {present[0]} but lacks {lacking}: copy all files of the model")
    return ending


def is_blank(folder: Path, ending: str) -> bool:
    """Returns whether all files of a model are empty."""
    return not any((folder / f"{name}.{ending}").stat().st_size for name in FILES)


def check_binary(folder: Path) -> dict[int, bytes]:
    """Follows the records of a model's binary files, and reads the names of the images.

    Returns:
        A dict from the ID of each image to its name.

    Raises:
        ModelError: a file is cut off, or a camera's model is unknown.
    """
    names: dict[int, bytes] = {}
    _Records(folder / "cameras.bin").walk(_camera)
    _Records(folder / "images.bin").walk(lambda records: _image(records, names))
    _Records(folder / "points3D.bin").walk(_point)
    if (folder / "rigs.bin").is_file():
        _Records(folder / "rigs.bin").walk(_rig)
        _Records(folder / "frames.bin").walk(_frame)
    return names


@dataclass
class _Records:
    """The records of a binary file.

    Attributes:
        path: the file.
        content: its bytes.
        position: the position of the next byte.
    """

    path: Path
    content: Any = b""
    position: int = 0

    def walk(self, skip: "Callable[[_Records], None]") -> None:
        """Reads the number of records, and skips that many.

        Raises:
            ModelError: the file ends before the last record.
        """
        with self.path.open("rb") as file:
            empty = not file.seek(0, 2)
            with mmap.mmap(-1, 1) if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self.content = b"" if empty else content
                (count,) = self.take(_COUNT)
                for _ in range(count):
                    skip(self)
                self.content = b""

    def take(self, form: struct.Struct) -> tuple[Any, ...]:
        """Reads numbers."""
        start = self.position
        self.jump(form.size)
        return form.unpack_from(self.content, start)

    def text(self) -> bytes:
        """Reads a text that ends with a zero byte."""
        start, end = self.position, self.content.find(b"\0", self.position)
        if end < 0:
            self._cut_off()
        self.position = end + 1
        return self.content[start:end]

    def jump(self, size: int) -> None:
        """Skips bytes."""
        self.position += size
        if self.position > len(self.content):
            self._cut_off()

    def _cut_off(self) -> NoReturn:
        raise ModelError(
            f"{self.path} is damaged or cut off at {len(self.content):,} bytes: copy the model again, or remove its "
            "folder"
        )


def _camera(records: _Records) -> None:
    number, model, *_ = records.take(_CAMERA)
    counts = {int(kind): count for kind, count in _parameters().values()}
    if model not in counts:
        raise ModelError(f"{records.path}: camera {number} is of a model with the number {model}, which {_UNKNOWN}")
    records.jump(8 * counts[model])


def _image(records: _Records, names: dict[int, bytes]) -> None:
    number, *_ = records.take(_IMAGE)
    names[number] = records.text()
    records.jump(24 * records.take(_COUNT)[0])


def _point(records: _Records) -> None:
    records.jump(_POINT.size)
    records.jump(8 * records.take(_COUNT)[0])


def _rig(records: _Records) -> None:
    _, sensors = records.take(_RIG)
    for sensor in range(sensors):
        records.jump(_SENSOR)
        if sensor and records.take(struct.Struct("<B"))[0]:
            records.jump(_POSE - 1)


def _frame(records: _Records) -> None:
    *_, images = records.take(_FRAME)
    records.jump(16 * images)


_UNKNOWN = "the installed COLMAP does not know: update pycolmap"


@cache
def _parameters() -> dict[str, tuple[int, int]]:
    """Maps the name of each camera model to its number and the number of its parameters."""
    colmap = load_colmap()
    return {
        name: (int(kind), len(colmap.Camera.create_from_model_id(1, kind, 1.0, 1, 1).params))
        for name, kind in colmap.CameraModelId.__members__.items()
        if name != "INVALID"
    }


def copy_text(folder: Path, target: Path) -> dict[int, bytes]:
    """Copies a model's text files in a form that COLMAP reads correctly; each image is named by its ID.

    Args:
        folder: the folder of the model.
        target: an empty folder.

    Returns:
        A dict from the ID of each image to its name: all that follows the one blank after CAMERA_ID.

    Raises:
        ModelError: a line of cameras.txt or images.txt is invalid; the message names it.
        OSError: a file cannot be read or copied.
    """
    cameras = _cameras(folder / "cameras.txt")
    names = _copy_images(folder / "images.txt", target / "images.txt", cameras)
    for name in ("cameras", "points3D", *RIG_FILES):
        if (folder / f"{name}.txt").is_file():
            _link(folder / f"{name}.txt", target / f"{name}.txt")
    return names


def _link(source: Path, target: Path) -> None:
    """Links a text file, or copies it if links are impossible or it begins with a byte order mark."""
    with source.open("rb") as file:
        marked = file.read(len(_MARK)) == _MARK
        if not marked:
            try:
                target.symlink_to(source.resolve())
            except OSError:
                file.seek(0)
            else:
                return
        with target.open("wb") as copy:
            shutil.copyfileobj(file, copy)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The number and the text of each line that is no comment."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            text = line.removeprefix(_MARK if number == 1 else b"").rstrip(b"\r\n")
            if not text.lstrip().startswith(b"#"):
                yield number, text


def _wrong(path: Path, line: int, text: bytes, why: str) -> ModelError:
    shown = text.decode("utf-8", "replace").strip()
    shown = f"{shown[:_SHOWN]}.." if len(shown) > _SHOWN else shown
    return ModelError(f"{path}, line {line}: {shown!r} {why}")


def _cameras(path: Path) -> set[int]:
    """The IDs of the cameras of cameras.txt."""
    found = set()
    for line, text in _lines(path):
        if not text.strip():
            continue
        tokens = text.decode("utf-8", "replace").split()
        number, model, values = tokens[0], "".join(tokens[1:2]), tokens[2:]
        kind = _parameters().get(model)
        if kind is None and re.fullmatch("[A-Z_]+", model):
            raise _wrong(path, line, text, f"has the camera model {model}, which {_UNKNOWN}")
        if kind is None or len(values) != 2 + kind[1] or not number.isdigit() or not all(map(_is_number, values)):
            raise _wrong(
                path, line, text, "is not CAMERA_ID MODEL WIDTH HEIGHT PARAMS, numbers separated by blanks and with a "
                "decimal point"
            )  # fmt: skip
        found.add(int(number))
    return found


def _is_number(text: str | bytes) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _copy_images(source: Path, target: Path, cameras: set[int]) -> dict[int, bytes]:
    """Copies images.txt with numbers for the names, and returns the names."""
    names: dict[int, bytes] = {}
    after = b""  # the first line of the image whose 2D points come next
    with target.open("wb") as copy:
        for line, text in _lines(source):
            if after:
                if not _are_points(text):
                    raise _wrong(
                        source, line, text, "is not X Y POINT3D_ID for each 2D point: an image has two lines, the "
                        "second of which is empty if the image has no 2D points"
                    )  # fmt: skip
                copy.write(text + b"\n")
                after = b""
            elif text.strip():
                number, camera, numbers, names_it = _image_line(source, line, text)
                if number in names:
                    raise _wrong(source, line, text, f"is a second image with the ID {number}: remove one")
                if camera not in cameras:
                    raise _wrong(source, line, text, f"has the camera {camera}, which cameras.txt lacks")
                names[number] = names_it
                copy.write(numbers + b" " + str(number).encode() + b"\n")
                after = text
        if after:
            copy.write(b"\n")
    return names


def _image_line(path: Path, line: int, text: bytes) -> tuple[int, int, bytes, bytes]:
    """The ID and the camera of an image, the numbers of its line, and its name."""
    found = _IMAGE_LINE.fullmatch(text)
    tokens = found[1].split() if found else []
    if not found or not all(map(_is_number, tokens)) or not (tokens[0].isdigit() and tokens[-1].isdigit()):
        raise _wrong(
            path, line, text, f"is not {_IMAGE_FORM}, numbers with a decimal point; an image has two lines, this one "
            "and the 2D points"
        )  # fmt: skip
    if not (found[2] or b"").strip():
        raise _wrong(path, line, text, f"names no photo: it must be {_IMAGE_FORM}")
    return int(tokens[0]), int(tokens[-1]), found[1], found[2]


def _are_points(text: bytes) -> bool:
    """Whether a line can be the 2D points of an image; of a long one the first and the last number are looked at."""
    tokens = text.split()
    if len(tokens) % 3:
        return False
    return not tokens or all(token.lstrip(b"-").isdigit() for token in (tokens[2], tokens[-1]))
