"""The result of grouping: the files groups.json and groups.csv, the page, and folders of links."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import FolderError, write_file
from keras_retrieval.pipelines.pages.rankings import Case, Hit, Picture, page

from ..index_contract.calibration import probability_text
from .linking import Pair

JSON, CSV, PAGE, OBJECTS = "groups.json", "groups.csv", "groups.html", "objects"
VERSION = 1
MOST_GROUPS, MOST_PHOTOS = 300, 20  # on the page
SIDE = 180
_LONGEST_NAME = 255  # bytes of a file's name


@dataclass(frozen=True)
class Group:
    """The photos of one object.

    Attributes:
        names: the photos, the one with most pairs first.
        pairs: the pairs that link them.
    """

    names: list[str]
    pairs: list[Pair]

    def best(self, name: str) -> Pair | None:
        """The surest pair of a photo with another one of the group."""
        return max(
            (pair for pair in self.pairs if name in pair.photos), key=lambda pair: pair.probability, default=None
        )


def as_groups(grouped: Sequence[Sequence[str]], pairs: Sequence[Pair]) -> list[Group]:
    """Adds the pairs to groups of names, and sorts the photos by their numbers of pairs."""
    number = {name: place for place, names in enumerate(grouped) for name in names}
    inside: list[list[Pair]] = [[] for _ in grouped]
    for pair in pairs:
        if pair.one in number and number[pair.one] == number.get(pair.other):
            inside[number[pair.one]].append(pair)
    groups = []
    for names, some in zip(grouped, inside, strict=True):
        count = dict.fromkeys(names, 0)
        for pair in some:
            for name in pair.photos:
                count[name] += 1
        groups.append(Group(sorted(names, key=lambda name: (-count[name], name)), some))
    return groups


def write_groups(folder: Path, groups: Sequence[Group], names: Sequence[str], about: Mapping[str, Any]) -> None:
    """Writes groups.json and groups.csv.

    Args:
        folder: the folder, which exists.
        groups: the groups.
        names: the names of all photos.
        about: further entries of groups.json.
    """
    content = {
        "version": VERSION,
        **about,
        "groups": [
            {
                "photos": group.names,
                "pairs": [_entry(pair) for pair in group.pairs],
            }
            for group in groups
        ],
    }
    write_file(folder / JSON, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    number = {name: place for place, group in enumerate(groups, 1) for name in group.names}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["photo", "object"])
    rows.writerows([name, number.get(name, "")] for name in names)
    write_file(folder / CSV, text.getvalue().encode("utf-8", "surrogateescape"))


def _entry(pair: Pair) -> dict[str, Any]:
    probability = math.floor(1e4 * pair.probability) / 1e4
    return {"photos": [pair.one, pair.other], "probability": probability, "inliers": pair.inliers}


def check_links(folder: Path) -> None:
    """Checks that the folder `OBJECTS` in a folder, if there is one, has nothing but links in numbered folders.

    Raises:
        FolderError: it has something else, which would be lost.
    """
    target = folder / OBJECTS
    if not target.is_symlink() and not target.exists():
        return
    foreign = None if target.is_dir() and not target.is_symlink() else target
    for place in () if foreign else target.iterdir():
        ours = place.name.isdecimal() and place.is_dir() and not place.is_symlink()
        foreign = next((one for one in place.iterdir() if not one.is_symlink()), None) if ours else place
        if foreign:
            break
    if foreign:
        raise FolderError(f"{foreign} was not written by this step, and {target} is replaced: name another folder")


def remove_links(folder: Path) -> None:
    """Removes the links of an earlier run, which are of other groups; others stay."""
    with contextlib.suppress(FolderError):
        check_links(folder)
        shutil.rmtree(folder / OBJECTS, ignore_errors=True)


def write_links(folder: Path, groups: Sequence[Group], photos: Path) -> int:
    """Makes a folder of symbolic links to the photos of each group; an earlier one is replaced.

    Args:
        folder: the folder `OBJECTS` is made in it.
        groups: the groups.
        photos: the folder of the photos.

    Returns:
        The number of links.

    Raises:
        FolderError: see `check_links`.
    """
    check_links(folder)
    target, writing = folder / OBJECTS, folder / f".{OBJECTS}.writing"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    count, digits = 0, max(3, len(str(len(groups))))
    for number, group in enumerate(groups, 1):
        place = writing / f"{number:0{digits}}"
        place.mkdir()
        for rank, name in enumerate(group.names, 1):
            (place / _link_name(rank, Path(name))).symlink_to((photos / name).resolve())
            count += 1
    shutil.rmtree(target, ignore_errors=True)
    writing.replace(target)
    return count


def _link_name(rank: int, photo: Path) -> str:
    name = f"{rank:03}-{photo.name}"
    return name if len(os.fsencode(name)) <= _LONGEST_NAME else f"{rank:03}{photo.suffix}"


def groups_page(groups: Sequence[Group], photos: Path, facts: Sequence[str], reading: Mapping[str, Any]) -> str:
    """Returns the HTML page of the groups.

    Args:
        groups: the groups; at most `MOST_GROUPS` are on the page.
        photos: folder of the photos.
        facts: lines below the title.
        reading: how photos are read: `exif` and `max_pixels`.
    """
    lines = list(facts)
    if len(groups) > MOST_GROUPS:
        lines.append(f"the {MOST_GROUPS} largest groups are shown")
    cases = []
    for number, group in enumerate(groups[:MOST_GROUPS], 1):
        first, *others = group.names
        note = f"object {number} · {len(group.names):,} photos"
        note += f", {MOST_PHOTOS} shown" if len(others) >= MOST_PHOTOS else ""
        hits = [Hit(_picture(photos, name, reading), "", _note(group, name)) for name in others[: MOST_PHOTOS - 1]]
        cases.append(Case(_picture(photos, first, reading), note, hits))
    return page("groups", "Photos by object", lines, cases=cases, legend="", side=SIDE)


def _picture(photos: Path, name: str, reading: Mapping[str, Any]) -> Picture:
    return Picture(photos / name, name=name, **reading)


def _note(group: Group, name: str) -> str:
    pair = group.best(name)
    if pair is None:
        return ""
    points = "" if not pair.inliers else f" · {pair.inliers} points"
    return f"{probability_text(pair.probability)}{points}"
