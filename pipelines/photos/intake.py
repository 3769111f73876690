"""Takes the photos of a folder: every file below it is taken, left out with a reason, or ignored by a stated rule.

The content of a file decides, not its name: the first bytes show whether it is a photo of a format that is read here.
Links to folders outside are followed, each folder once. Files of operating systems, storage servers and photo
libraries, and hidden files, are ignored by rules that can be switched off.
"""

import logging
import os
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import compress
from operator import attrgetter
from pathlib import Path, PurePosixPath

from keras_retrieval.errors import printable

from ..files.durable import FileStates
from ..files.progress import progress
from ..files.remote import MissingFileError, RemoteFolder, named, remote_folder
from ..files.stored_path import normal
from .content_cache import ContentCache
from .formats import HEIC_MISSING, RAW_TIFF, PhotoFolderError, heif_is_installed, is_text, system_reason
from .ignore_rules import DEFAULT_RULES, EXCLUDED, IgnoreRules, IntakeRules
from .signatures import EMPTY, HEAD, content_of, is_raw_tiff

log = logging.getLogger("keras_retrieval")

IGNORED = "ignored: "
"""The beginning of the reason of an ignored file, in `Intake.reasons`."""

_CONTAINS_IT = "a link to a folder that contains it"
_OWN_NAME = "a link to a folder that is read under its own name"
_OTHER_NAME = "a link to a folder that is read under another name"
_LINK_TO_EXCLUDED = "a link to a folder that matches --exclude"
_LINKED = "a folder that is read under the name of a link"
HEIC = "HEIC"
"""What `file_content` says of a HEIC photo, since it depends on the installation whether that can be read."""

_NOT_UTF8 = "its name is not valid UTF-8: rename it"
_NOT_A_FILE = "not a regular file"
_SLOW_OPEN = 0.0005  # seconds per file; files that open more slowly are on a network and are opened side by side
_SIDE_BY_SIDE = 16
_BATCH = 4096


@dataclass(frozen=True)
class Intake:
    """The account of a folder; each file is in exactly one of the three groups.

    Attributes:
        folder: the folder.
        photos: sorted names of the photos, relative to `folder`, with / as the separator.
        left_out: maps the names of files that are no photos, or cannot be opened, to the reasons. A folder that cannot
            be listed is in it with a / at the end.
        ignored: maps the names of ignored files to the rules. A link to a folder that is read under another name is in
            it with a / at the end.
        states: the states of the files of `photos`, in the same order, by which a change of a file is noticed.
    """

    folder: Path
    photos: list[str]
    left_out: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    states: FileStates = field(default_factory=FileStates, repr=False)

    def states_of(self, names: Sequence[str]) -> FileStates:
        """The states of the files of some of the photos, in the order of `names`."""
        rows = [self._row_of[name] for name in names]
        sizes, tags = self.states.sizes, self.states.tags
        return FileStates([sizes[row] for row in rows], [tags[row] for row in rows])  # type: ignore[arg-type]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.photos)}

    @property
    def reasons(self) -> dict[str, str]:
        """Maps all files that are not taken to the reasons; those of ignored files begin with `IGNORED`."""
        return self.left_out | {name: IGNORED + rule for name, rule in self.ignored.items()}

    @property
    def account(self) -> str:
        """The number of files in each group, and below that a line for each reason with its number of files."""
        lines = [_numbered(len(self.photos), "photo")]
        details = []
        for group, files in (("left out", self.left_out), ("ignored", self.ignored)):
            if files:
                lines.append(f"{_numbered(len(files), 'file')} {group}")
                details += [f"  {group}: {line}" for line in counted(files.values())]
        return "\n".join([f"{printable(named(self.folder))}: {', '.join(lines)}", *details])


def _numbered(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def counted(reasons: Iterable[str], most: int = 8) -> list[str]:
    """The number of files for each reason, the most frequent first, such as "12 x a video (QuickTime)"."""
    groups = Counter(reasons).most_common()
    shown = [f"{count:,} x {reason}" for reason, count in groups[:most]]
    rest = sum(count for _, count in groups[most:])
    return [*shown, f"{rest:,} x other reasons"] if rest else shown


def take_photos(folder: Path, rules: IntakeRules = DEFAULT_RULES, *, required: bool = True) -> Intake:
    """Takes the photos of a folder and its sub-folders.

    The first bytes of each file are read once: those of a file whose size and modification time have not changed since
    the last time are remembered in the user's cache folder.

    At an address every file that no rule ignores is taken: the listing is all that is read. A file that is not a photo
    is then left out where its header is read.

    Args:
        folder: the folder, or an address such as s3://BUCKET/FOLDER as a path.
        rules: which files are ignored.
        required: whether a folder without a photo is an error.

    Returns:
        The account of all files.

    Raises:
        PhotoFolderError: `folder` does not exist, is a file or cannot be listed, or has no photo and one is required.
        ArgumentError: a pattern of `rules` has no effect in a .gitignore file.
        RemoteError: the storage of an address does not answer, or refuses the listing.
    """
    folder = Path(folder)
    if remote := remote_folder(folder):
        return _take_remote(remote, folder, rules, required)
    try:
        if not folder.is_dir():
            raise PhotoFolderError(f"{folder} {'is a file, not a folder' if folder.exists() else 'does not exist'}")
    except OSError as error:
        raise PhotoFolderError(f"{folder}: {system_reason(error)}") from error
    walk, contents = _Walk(folder, rules), _Contents(ContentCache.load(folder))
    contents.add(walk.files())
    contents.seen.save()
    left_out = dict(sorted((walk.left_out | contents.left_out).items()))
    photos, states = contents.in_order()
    intake = Intake(folder, photos, left_out, dict(sorted(walk.ignored.items())), states)
    if required and not photos:
        raise nothing_to_take(intake)
    walk.warn_of_idle_patterns()
    _warn_of_twins(photos)
    return intake


def _take_remote(remote: RemoteFolder, folder: Path, rules: IntakeRules, required: bool) -> Intake:
    """Takes the files at an address by their names."""
    try:
        states = remote.files()
    except MissingFileError as error:
        raise PhotoFolderError(f"{error}: name a folder of photos") from error
    ignore = IgnoreRules(rules)
    folders: dict[str, str] = {"": ""}
    left_out: dict[str, str] = {}
    ignored: dict[str, str] = {}

    def of_folder(path: str) -> str:
        """The rule by which a folder, or one of those that contain it, is ignored, or ""."""
        if path not in folders:
            above, _, name = path.rpartition("/")
            folders[path] = of_folder(above) or ignore.of_folder(name, path)
        return folders[path]

    for name, (size, _) in states.items():
        above, _, last = name.rpartition("/")
        if rule := of_folder(above) or ("" if ignore.is_plain(last) else ignore.of_file(last, name)):
            ignored[name] = rule
        elif size == 0:
            left_out[name] = EMPTY
        elif name[0] == "/" or (".." in name and ".." in name.split("/")):
            left_out[name] = "its name leads out of the folder (it has .. or begins with /): rename it"
    photos = sorted(name for name in states if name not in ignored and name not in left_out)
    of_photos = FileStates([states[name][0] for name in photos], [states[name][1] for name in photos])
    intake = Intake(folder, photos, dict(sorted(left_out.items())), dict(sorted(ignored.items())), of_photos)
    if required and not photos:
        raise nothing_to_take(intake)
    for option, pattern in ignore.idle:
        log.warning(printable(f"{option} {pattern}: no file or folder below {named(folder)} matches"))
    _warn_of_twins(photos)
    return intake


def list_photos(folder: Path) -> list[str]:
    """Lists the photos of a folder and its sub-folders, as `take_photos` takes them by default.

    The account is logged if a file was left out or ignored.

    Returns:
        Sorted names relative to `folder`, with / as the separator.

    Raises:
        PhotoFolderError: as for `take_photos`.
    """
    intake = take_photos(folder)
    if intake.left_out or intake.ignored:
        log.info(intake.account)
    return intake.photos


def nothing_to_take(intake: Intake) -> PhotoFolderError:
    """Makes the error for a folder without a photo, which says what is in it instead."""
    said = "" if intake.left_out or intake.ignored else ": it is empty"
    if intake.left_out:
        name, reason = next(iter(intake.left_out.items()))
        counts = "; ".join(counted(intake.left_out.values(), 3))
        said = f"; left out: {counts}; the first: {printable(name)}: {reason}"
    said += f"; ignored: {'; '.join(counted(intake.ignored.values(), 3))}" if intake.ignored else ""
    return PhotoFolderError(f"{named(intake.folder)} contains no photo{said}")


def _warn_of_twins(photos: Sequence[str]) -> None:
    """Logs photos whose names are the same text in different Unicode forms."""
    forms: dict[str, list[str]] = defaultdict(list)
    for name in photos:
        if not name.isascii():
            forms[normal(name)].append(name)
    twins = [names for names in forms.values() if len(names) > 1]
    if twins:
        first, second = twins[0][:2]
        log.warning(
            f"{_numbered(len(twins), 'name')} stored in two Unicode forms of one text (NFC and NFD); each form is a "
            f"photo of its own; the first: {printable(first)} ({first!a} and {second!a})"
        )


_PHOTO_SUFFIXES = {
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"
}  # fmt: skip


def is_named_as_photo(name: str) -> bool:
    """Whether a name ends as those of photos usually do; whether the file is one, its content decides."""
    return PurePosixPath(name.lower()).suffix in _PHOTO_SUFFIXES


@dataclass
class _Files:
    """Files of one folder.

    Attributes:
        path: the path of the folder.
        prefix: what the names of its files begin with: its path below the folder of photos with a / at the end, or "".
        last: the last part of the name of each file.
    """

    path: str
    prefix: str
    last: list[str]

    @property
    def names(self) -> list[str]:
        """The names of the files, relative to the folder of photos."""
        return [self.prefix + last for last in self.last]

    @property
    def named(self) -> list[tuple[str, str]]:
        """The name and the path of each file."""
        return [(self.prefix + last, f"{self.path}/{last}") for last in self.last]


class _Walk:
    """One walk over a folder, which sorts out what the names, links and types of files decide.

    Attributes:
        left_out: maps what cannot be read to the reason.
        ignored: maps what is ignored to the rule.
    """

    def __init__(self, folder: Path, rules: IntakeRules) -> None:
        self.left_out: dict[str, str] = {}
        self.ignored: dict[str, str] = {}
        self._folder = folder
        self._rules = IgnoreRules(rules)
        self._root = os.path.realpath(folder)
        self._visited: set[tuple[int, int]] = set()

    def files(self) -> Iterator[_Files]:
        """Yields the regular files that no rule ignores, folder by folder.

        Raises:
            PhotoFolderError: the folder itself cannot be listed.
        """
        pending: list[tuple[str, str, str, bool]] = [(os.fspath(self._folder), "", "", False)]
        while pending:
            path, name, rule, outside = pending.pop()
            files, others = self._entries(path, name, not rule and is_text(name))
            for entry in others:
                is_file, folder = self._sorted(entry, f"{name}{entry.name}", rule, outside)
                if is_file:
                    files.append(entry.name)
                elif folder is not None:
                    pending.append(folder)
            if files:
                yield _Files(path, name, files)

    def warn_of_idle_patterns(self) -> None:
        """Logs the patterns that no file or folder matched, once `files` is exhausted."""
        for option, pattern in self._rules.idle:
            log.warning(printable(f"{option} {pattern}: no file or folder below {self._folder} matches"))

    def _entries(self, path: str, name: str, plain: bool) -> tuple[list[str], list[os.DirEntry[str]]]:
        """The entries of a folder by name, so that the same one of several links is followed on every system.

        Args:
            path: the path of the folder.
            name: its name below the folder of photos with a / at the end, or "".
            plain: whether no rule ignores the folder itself.

        Returns:
            The names of files that no rule can ignore, of which a folder may have a million, and the other entries.
        """
        files, others, is_plain = [], [], self._rules.is_plain
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if plain and is_plain(entry.name) and entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
                    else:
                        others.append(entry)
        except OSError as error:
            if not name:
                raise PhotoFolderError(f"{path}: the folder cannot be listed ({error.strerror})") from error
            self.left_out[name] = f"the folder cannot be listed ({error.strerror})"
            return [], []
        files.sort()
        others.sort(key=attrgetter("name"))
        return files, others

    def _sorted(
        self, entry: os.DirEntry[str], name: str, rule: str, outside: bool
    ) -> tuple[bool, tuple[str, str, str, bool] | None]:
        """Returns whether an entry is a file to look at, and the folder to list if it is one."""
        linked = entry.is_symlink()
        if self._is_folder(entry):
            rule = rule or self._rules.of_folder(entry.name, name)
            if linked or outside:
                known = self._known(entry, linked, rule)
                if known:
                    self.ignored[f"{name}/"] = known
                    return False, None
            return False, (entry.path, f"{name}/", rule, outside or linked)
        rule = rule or self._rules.of_file(entry.name, name)
        if rule:
            self.ignored[name] = rule
        elif not is_text(name):
            self.left_out[name] = _NOT_UTF8
        elif reason := _not_a_file(entry):
            self.left_out[name] = reason
        else:
            return True, None
        return False, None

    @staticmethod
    def _is_folder(entry: os.DirEntry[str]) -> bool:
        try:
            return entry.is_dir()
        except OSError:  # a link to itself
            return False

    def _known(self, entry: os.DirEntry[str], linked: bool, rule: str) -> str:
        """Why a link to a folder, or a folder below a link, is not read under this name; "" for one that is read."""
        real, inside = os.path.realpath(entry.path), self._root.rstrip("/") + "/"
        if self._root == real or self._root.startswith(real.rstrip("/") + "/"):
            return _CONTAINS_IT
        if linked and rule:
            return rule  # so that each folder is read under the name of a link that no rule ignores
        if real.startswith(inside):
            hindrance = self._rule_of_folder(real.removeprefix(inside))
            if hindrance in ("", EXCLUDED):
                return _LINK_TO_EXCLUDED if hindrance else _OWN_NAME
        try:
            status = entry.stat()
        except OSError:
            return ""  # listing it will say why
        if (status.st_dev, status.st_ino) in self._visited:
            return _OTHER_NAME if linked else _LINKED
        self._visited.add((status.st_dev, status.st_ino))
        return ""

    def _rule_of_folder(self, path: str) -> str:
        """The rule by which a folder of the tree, or one of the folders that contain it, is ignored, or ""."""
        parts = path.split("/")
        rules = (self._rules.of_folder(name, "/".join(parts[: depth + 1])) for depth, name in enumerate(parts))
        return next(filter(None, rules), "")


def _not_a_file(entry: os.DirEntry[str]) -> str:
    """The reason why an entry that is no folder is not opened, or ""."""
    try:
        if entry.is_file():
            return ""
        if entry.is_symlink():
            entry.stat()  # raises an error for a broken link
    except FileNotFoundError:
        return "a link to a file that does not exist"
    except OSError as error:
        return system_reason(error)
    return _NOT_A_FILE


class _Contents:
    """Sorts files by their content, side by side once opening a file has turned out to be slow.

    Args:
        seen: what was remembered of the folder.

    Attributes:
        seen: what is remembered of the folder from now on.
        left_out: maps the names of files that are no photos to the reasons.
    """

    def __init__(self, seen: ContentCache) -> None:
        self.seen = seen
        self.left_out: dict[str, str] = {}
        self._photos: list[str] = []
        self._sizes, self._times = array("q"), array("q")
        self._slow = False

    def add(self, files: Iterable[_Files]) -> None:
        """Looks into files."""
        with progress("intake", None, "files") as advance, ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            for batch in _batches(files):
                started, count = time.perf_counter(), sum(len(one.last) for one in batch)
                rest = [
                    file for one in batch for file in (one.named if self._slow else self._without_known_photos(one))
                ]
                contents = (pool.map if self._slow else map)(self._content, rest)
                for (name, _), (content, size, changed) in zip(rest, contents, strict=True):
                    self._add(name, content, size, changed)
                self._slow = time.perf_counter() - started > _SLOW_OPEN * count
                advance(count)

    def in_order(self) -> tuple[list[str], FileStates]:
        """The names of the photos, sorted, and the states of their files."""
        order = sorted(range(len(self._photos)), key=self._photos.__getitem__)
        sizes, times = (array("q", map(column.__getitem__, order)) for column in (self._sizes, self._times))
        return [self._photos[row] for row in order], FileStates(sizes, times)

    def _add(self, name: str, content: str, size: int, changed: int) -> None:
        if size >= 0:
            self.seen.note(name, size, changed, content)
        if content and (reason := _reason(content)):
            self.left_out[name] = reason
            return
        self._photos.append(name)
        self._sizes.append(size)
        self._times.append(changed)

    def _without_known_photos(self, files: _Files) -> list[tuple[str, str]]:
        """Takes the photos that have not changed since the last time; returns the other files."""
        names, rows = self.seen.found(files.names)
        if rows is None:
            return files.named
        try:
            folder = os.open(files.path, os.O_RDONLY)  # a name below it is found faster than a whole path
        except OSError:
            return files.named
        try:
            states = [os.stat(name, dir_fd=folder) for name in files.last]
        except OSError:  # one of them is gone
            return files.named
        finally:
            os.close(folder)
        sizes = array("q", [state.st_size for state in states])
        times = array("q", [state.st_mtime_ns for state in states])
        known = self.seen.are_photos(rows, sizes, times)
        if known.all():
            rest = []
        else:
            rest = list(compress(files.named, ~known))
            names = list(compress(names, known))
            sizes, times = (array("q", compress(column, known)) for column in (sizes, times))
        self.seen.keep(names, sizes, times)
        self._photos += names
        self._sizes += sizes
        self._times += times
        return rest

    def _content(self, file: tuple[str, str]) -> tuple[str, int, int]:
        """The content of a file, its size, and its modification time in ns; a size of -1 if it cannot be read."""
        name, path = file
        try:
            if (row := self.seen.row_of(name)) is not None:
                status = os.stat(path)  # noqa: PTH116 - of a million files, Path takes longer than the system
                state = status.st_size, status.st_mtime_ns
                content = self.seen.content(row, *state)
                if content is not None:
                    return content, *state
            content, state = file_content(path)
        except OSError as error:
            return system_reason(error), -1, 0
        return content, *state


def _batches(files: Iterable[_Files]) -> Iterator[list[_Files]]:
    """Batches of files: a small one first, which shows how fast files open."""
    free = _SIDE_BY_SIDE
    batch: list[_Files] = []
    for one in files:
        start = 0
        while start < len(one.last):
            batch.append(_Files(one.path, one.prefix, one.last[start : start + free]))
            start += len(batch[-1].last)
            free -= len(batch[-1].last)
            if not free:
                yield batch
                batch, free = [], _BATCH
    if batch:
        yield batch


def _reason(content: str) -> str:
    """The reason why a file with this content is left out; "" for photos that can be read."""
    if content == HEIC:
        return "" if heif_is_installed() else HEIC_MISSING
    return content


def file_content(path: str) -> tuple[str, tuple[int, int]]:
    """Looks into a file.

    Returns:
        Its content: "" for a photo, `HEIC` for a HEIC photo, and the reason to leave it out for everything else; and
        its size in bytes and modification time in ns.

    Raises:
        OSError: the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        name, reason = content_of(os.read(descriptor, HEAD))
    finally:
        os.close(descriptor)
    if name == "TIFF":
        with Path(path).open("rb") as file:
            reason = RAW_TIFF if is_raw_tiff(file) else ""
    return HEIC if name == "HEIC" else reason, (status.st_size, status.st_mtime_ns)
