"""The local features of an index: folders of features in the folder `local` of an index folder.

INDEX/local/contents.json lists in their order the folders of features that were added, and the names of photos that
were removed or were added without features, so that the features of a name are those that were added last. It is
replaced atomically. The folders are those that `extract --local` writes; their files are linked, or copied where the
file system has no links.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.files.durable import MANIFEST, FolderError, parse_manifest, write_file
from keras_retrieval.pipelines.files.local_copy import local_copy
from keras_retrieval.pipelines.files.remote import MissingFileError, RemoteFolder, address_of, named
from keras_retrieval.pipelines.files.remote_errors import shown
from keras_retrieval.pipelines.files.space import naming_full_disk
from keras_retrieval.pipelines.local_features.features import LocalFeatures
from keras_retrieval.pipelines.local_features.folder import KIND, VERSION, StoredFeatures, open_features

from keras_retrieval.errors import ArgumentError, printable

from ..folder_index.layout import LOCAL, locked


@dataclass(frozen=True)
class AddedFeatures:
    """The local features that an index took over.

    Attributes:
        count: the number of photos with features.
        bytes_per_photo: the mean size of the features of a photo.
    """

    count: int
    bytes_per_photo: int


_CONTENTS = "contents.json"
_ADDED, _REMOVED = "added", "removed"
_SAME = ("extractor", "size", "dimensions")
"""Facts of features that are compared with each other must be the same."""


class LocalStore:
    """The local features of the photos of an index folder, also while other processes change them.

    Args:
        index: the index folder. Of one at an address a copy is made, which changes there do not reach.

    Raises:
        FolderError: the index has no local features, or they are damaged.
        RemoteError: the storage of an address does not answer, or refuses.
        DiskSpaceError: the copy does not fit on the disk.
    """

    def __init__(self, index: Path) -> None:
        address = address_of(index)
        home = index if address is None else _copied(RemoteFolder(address))
        if home is None or not (home / LOCAL / _CONTENTS).is_file():
            raise FolderError(
                f"{named(index)} has no local features, by which --verify compares photos: `keras-retrieval extract "
                "--local xfeat` adds them to its descriptors, and `update --add` or `index` takes them over"
            )
        self._folder = home / LOCAL
        self._opened: dict[str, StoredFeatures] = {}
        self._seen: tuple[int, int, int] | None = None
        self._of_name: dict[str, StoredFeatures] = {}

    @property
    def facts(self) -> Mapping[str, Any]:
        """How the features were made; see `StoredFeatures.facts`.

        Raises:
            FolderError: no photo has features, or they are damaged.
        """
        self._refresh()
        if not self._opened:
            raise FolderError(
                f"{self._folder} has no features of any photo: extract with --local, and update the index"
            )
        return next(reversed(self._opened.values())).facts

    def __len__(self) -> int:
        self._refresh()
        return len(self._of_name)

    def read(self, name: str) -> LocalFeatures | None:
        """Returns the features of a photo; None for a photo without features."""
        self._refresh()
        stored = self._of_name.get(name)
        return None if stored is None else stored.read(name)

    def _refresh(self) -> None:
        """Reads contents.json if it has changed, and again if a writer removes folders meanwhile."""
        while (stamp := self._stamp()) != self._seen:
            try:
                self._load(stamp)
            except (FolderError, OSError):
                if self._stamp() == stamp:
                    raise

    def _stamp(self) -> tuple[int, int, int]:
        facts = (self._folder / _CONTENTS).stat()
        return facts.st_mtime_ns, facts.st_size, facts.st_ino

    def _load(self, stamp: tuple[int, int, int]) -> None:
        opened: dict[str, StoredFeatures] = {}
        of_name: dict[str, StoredFeatures] = {}
        for entry in _read(self._folder):
            for name in entry.get(_REMOVED, ()):
                of_name.pop(name, None)
            if folder := entry.get(_ADDED):
                stored = self._opened.get(folder) or open_features(self._folder / folder)
                opened[folder] = stored
                of_name |= dict.fromkeys(stored.names, stored)
        self._opened, self._of_name, self._seen = opened, of_name, stamp


def _copied(remote: RemoteFolder) -> Path | None:
    """Copies the local features of an index at an address; returns the folder with the copy, None if it has none."""
    contents = f"{LOCAL}/{_CONTENTS}"
    while True:
        try:
            text = remote.read(contents)
        except MissingFileError:
            return None
        sums = {contents: hashlib.sha256(text).hexdigest()}
        try:
            for entry in _parse(text, f"{shown(remote.address)}/{contents}"):
                if folder := entry.get(_ADDED):
                    name = f"{LOCAL}/{folder}/{MANIFEST}"
                    manifest = remote.read(name)
                    place = Path(f"{remote.address}/{LOCAL}/{folder}")
                    facts = parse_manifest(manifest, place, kind=KIND, version=VERSION)
                    sums[name] = hashlib.sha256(manifest).hexdigest()
                    sums |= {f"{LOCAL}/{folder}/{file}": str(digest) for file, digest in facts["sha256"].items()}
            return local_copy(remote, sums)
        except (MissingFileError, FolderError) as error:
            try:
                changed = remote.read(contents) != text
            except MissingFileError:
                return None
            if not changed:
                raise FolderError(f"{shown(remote.address)}/{LOCAL} is damaged: {error}") from error


def has_local_features(index: Path) -> bool:
    """Returns whether an index folder, which may be at an address, has local features.

    Raises:
        RemoteError: the storage of an address does not answer, or refuses.
    """
    if address := address_of(index):
        return RemoteFolder(address).has(f"{LOCAL}/{_CONTENTS}")
    return (index / LOCAL / _CONTENTS).is_file()


def add_local_features(
    index: Path, features: Path, names: Collection[str], *, replace: bool = False
) -> "AddedFeatures":
    """Adds the features of photos to an index folder. Those that it has of the same names are no longer used.

    Args:
        index: the index folder.
        features: a folder of local features.
        names: the names of the photos that are added to the index; those without features lose the ones they had.
        replace: whether all features that the index has are replaced.

    Returns:
        The number of photos whose features were added, and the bytes of each.

    Raises:
        ArgumentError: the features were made by another extractor or at another size than those of the index.
        FolderError: the folder does not contain local features, or is damaged.
        IndexBusyError: another process is writing to the index.
    """
    stored = open_features(features)
    home = index / LOCAL
    home.mkdir(exist_ok=True)
    with locked(index, "writing"):
        before = [] if replace or not has_local_features(index) else _read(home)
        _check_same(home, before, stored.facts)
        number = 1 + max((int(path.name) for path in home.iterdir() if path.name.isdigit()), default=0)
        copied = home / f"{number:06}"
        _copy(features, copied)
        _write(home, [*before, {_REMOVED: sorted(set(names) - set(stored.names)), _ADDED: copied.name}])
        _remove_unlisted(home)
    return AddedFeatures(len(stored), stored.facts["bytes_per_photo"])


def check_local_features(index: Path, features: Path) -> None:
    """Checks that features can be added to an index folder, before it is changed.

    Args:
        index: the index folder.
        features: a folder of local features.

    Raises:
        ArgumentError: the features were made by another extractor or at another size than those of the index.
        FolderError: the folder does not contain local features, or it or those of the index are damaged.
    """
    stored = open_features(features)
    if has_local_features(index):
        _check_same(index / LOCAL, _read(index / LOCAL), stored.facts)


def compact_local_features(index: Path, names: Collection[str]) -> None:
    """Removes the folders of features of which no photo is in the index any more, or which were replaced as a whole.

    Args:
        index: the index folder.
        names: the names of all photos of the index.

    Raises:
        IndexBusyError: another process is writing to the index.
    """
    if not has_local_features(index):
        return
    home = index / LOCAL
    with locked(index, "writing"):
        entries, kept, missing = _read(home), list[dict[str, Any]](), set(names)
        for entry in reversed(entries):
            added = set(open_features(home / entry[_ADDED]).names) if _ADDED in entry else set()
            if used := added & missing:
                # Only what is used of it: a photo that was removed after it must not appear again.
                kept += [{_REMOVED: sorted(added - used)}, {_ADDED: entry[_ADDED]}]
            missing -= added | set(entry.get(_REMOVED, ()))
        _write(home, kept[::-1])
        _remove_unlisted(home)


def remove_local_features(index: Path, names: Sequence[str]) -> None:
    """Removes the features of photos from an index folder; names without features are ignored.

    Raises:
        IndexBusyError: another process is writing to the index.
    """
    if not has_local_features(index) or not names:
        return
    with locked(index, "writing"):
        _write(index / LOCAL, [*_read(index / LOCAL), {_REMOVED: list(names)}])


def drop_local_features(index: Path) -> None:
    """Removes all local features of an index folder."""
    if has_local_features(index):
        with locked(index, "writing"):
            shutil.rmtree(index / LOCAL)


def _read(home: Path) -> list[dict[str, Any]]:
    try:
        text = (home / _CONTENTS).read_bytes()
    except OSError:
        text = b""
    return _parse(text, str(home / _CONTENTS))


def _parse(text: bytes, place: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise FolderError(f"{place} is damaged: index again")
    return entries


def _is_entry(entry: Any) -> bool:
    """Whether this is an entry as `add_local_features` and the others write them: no other folder is ever named."""
    if not isinstance(entry, dict):
        return False
    added, removed = entry.get(_ADDED, "0"), entry.get(_REMOVED, [])
    digits = isinstance(added, str) and added.isascii() and added.isdigit()
    return digits and isinstance(removed, list) and all(isinstance(name, str) for name in removed)


def _write(home: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    write_file(home / _CONTENTS, json.dumps(entries, ensure_ascii=False) + "\n")


def _check_same(home: Path, entries: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    last = next((entry[_ADDED] for entry in reversed(entries) if _ADDED in entry), None)
    if last is None:
        return
    present = open_features(home / last).facts
    for key in _SAME:
        ours, theirs = ({**one[key], "path": ""} if key == "extractor" else one[key] for one in (present, facts))
        if ours != theirs:
            raise ArgumentError(
                f"the local features were made with {key} {_shown(facts[key])}, those of the index with "
                f"{_shown(present[key])}: extract them with the settings of the index"
            )


def _shown(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return f"{printable(str(value.get('path', value['name'])))} (SHA-256 {value['sha256'][:12]})"


def _copy(source: Path, target: Path) -> None:
    """Links the files of a folder into a new folder, or copies them; the folder appears whole."""
    writing = target.with_name(f".{target.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    size = sum(path.stat().st_size for path in source.iterdir())
    with naming_full_disk(target, size):
        try:
            writing.mkdir()
            for path in source.iterdir():
                try:
                    os.link(path, writing / path.name)
                except OSError:  # another disk, or a file system without links
                    shutil.copyfile(path, writing / path.name)
            writing.rename(target)
        except BaseException:
            shutil.rmtree(writing, ignore_errors=True)
            raise


def _remove_unlisted(home: Path) -> None:
    """Removes folders of features that are no longer listed; readers that have them open keep their files."""
    listed = {entry.get(_ADDED) for entry in _read(home)}
    for path in home.iterdir():
        if path.is_dir() and path.name not in listed:
            shutil.rmtree(path, ignore_errors=True)
