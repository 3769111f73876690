"""The rules by which files of a folder of photos are ignored: names of systems, hidden names, and patterns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..files.stored_path import normal

_SYSTEM_FOLDERS = {
    "@eadir": "Synology's thumbnails (@eaDir)",
    "@tmp": "Synology's temporary files (@tmp)",
    "#recycle": "Synology's recycle bin (#recycle)",
    "#snapshot": "snapshots of a storage server (#snapshot)",
    ".snapshot": "snapshots of a storage server (.snapshot)",
    ".snapshots": "snapshots of a file system (.snapshots)",
    "@recycle": "QNAP's recycle bin (@Recycle)",
    "@recently-snapshot": "QNAP's snapshots (@Recently-Snapshot)",
    ".@__thumb": "QNAP's thumbnails (.@__thumb)",
    "$recycle.bin": "Windows' recycle bin ($RECYCLE.BIN)",
    "recycler": "Windows' recycle bin (RECYCLER)",
    "system volume information": "Windows' system files (System Volume Information)",
    "__macosx": "macOS' resource forks in an archive (__MACOSX)",
    ".spotlight-v100": "macOS' search index (.Spotlight-V100)",
    ".fseventsd": "macOS' log of changes (.fseventsd)",
    ".temporaryitems": "macOS' temporary files (.TemporaryItems)",
    ".trashes": "macOS' bin (.Trashes)",
    ".trash": "a bin (.Trash)",
    ".dtrash": "digiKam's bin (.dtrash)",
    ".thumbnails": "thumbnails (.thumbnails)",
    ".thumbs": "thumbnails (.thumbs)",
    ".picasaoriginals": "Picasa's copies of edited photos (.picasaoriginals)",
    ".git": "a repository's history (.git)",
}
_LIBRARIES = {
    ".photoslibrary": "an Apple Photos library: export its photos, or name the folder originals inside",
    ".aplibrary": "an Aperture library: export its photos, or name the folder Masters inside",
    ".migratedphotolibrary": "an iPhoto library: export its photos, or name the folder Masters inside",
    ".photolibrary": "an iPhoto library: export its photos, or name the folder Masters inside",
    ".lrdata": "Lightroom's previews (.lrdata)",
}
_SYSTEM_FILES = {
    "thumbs.db": "Windows' thumbnails (Thumbs.db)",
    "ehthumbs.db": "Windows' thumbnails (ehthumbs.db)",
    "desktop.ini": "Windows' folder settings (desktop.ini)",
    ".ds_store": "macOS' folder settings (.DS_Store)",
    "icon\r": "a macOS folder icon",
    "picasa.ini": "Picasa's settings (picasa.ini)",
    ".picasa.ini": "Picasa's settings (.picasa.ini)",
}
_PLAIN_ENDS = frozenset((".jpg", ".JPG", "jpeg", "JPEG", ".png", ".PNG", "webp", "tiff"))
_SYSTEM = _SYSTEM_FILES | _SYSTEM_FOLDERS
_RESOURCE_FORK = "macOS' resource forks (._*)"
_BIN = "a bin (.Trash-*)"
_HIDDEN = "hidden (the name begins with a dot)"
EXCLUDED = "it matches --exclude"
_NOT_INCLUDED = "it matches no --include"


@dataclass(frozen=True, kw_only=True)
class IntakeRules:
    """Which files of a folder are ignored.

    Attributes:
        include: patterns as in .gitignore; if any is given, files that match none are ignored.
        exclude: patterns as in .gitignore; files and folders that match one are ignored.
        hidden: whether files and folders whose names begin with a dot are taken.
        system_files: whether files are taken that operating systems, storage servers and photo libraries keep beside
            photos, such as @eaDir and Thumbs.db.
    """

    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    system_files: bool = False


DEFAULT_RULES = IntakeRules()


class IgnoreRules:
    """Tells by which rule a file or folder is ignored.

    Args:
        rules: which rules apply.

    Raises:
        ArgumentError: a pattern is empty, a comment or invalid.
    """

    def __init__(self, rules: IntakeRules) -> None:
        self._rules = rules
        self._include = _Patterns("--include", rules.include) if rules.include else None
        self._exclude = _Patterns("--exclude", rules.exclude) if rules.exclude else None

        self._patterns = bool(rules.include or rules.exclude)

    def is_plain(self, name: str) -> bool:
        """Returns whether it shows at once that no rule ignores a file of this name, as that of nearly all photos.

        Args:
            name: the name of the file; True only if it is ASCII.
        """
        return name[-4:] in _PLAIN_ENDS and name[0] not in ".@$" and not self._patterns and name.isascii()

    @property
    def idle(self) -> list[tuple[str, str]]:
        """The patterns that no file or folder has matched, each with its option."""
        return [(one.option, text) for one in (self._include, self._exclude) if one for text in one.idle]

    def of_folder(self, name: str, path: str) -> str:
        """Returns the rule by which a folder is ignored with everything in it, or "".

        Args:
            name: the name of the folder.
            path: its path relative to the folder of photos.
        """
        excluded = self._exclude is not None and (self._exclude.match(path) or self._exclude.match(f"{path}/"))
        return self._of_name(name) or (EXCLUDED if excluded else "")

    def of_file(self, name: str, path: str) -> str:
        """Returns the rule by which a file is ignored, or "".

        Args:
            name: the name of the file.
            path: its path relative to the folder of photos.
        """
        excluded = self._exclude is not None and self._exclude.match(path)
        included = self._include is None or self._include.match(path)
        return self._of_name(name) or (EXCLUDED if excluded else "" if included else _NOT_INCLUDED)

    def _of_name(self, name: str) -> str:
        dotted = name.startswith(".")
        if not self._rules.system_files:
            if dotted and name.startswith("._"):
                return _RESOURCE_FORK
            lower = name.lower()
            if known := _SYSTEM.get(lower) or _LIBRARIES.get(lower[lower.rfind(".") :]):
                return known
            if dotted and lower.startswith(".trash-"):
                return _BIN
        return _HIDDEN if dotted and not self._rules.hidden and not name.startswith("..") else ""


class _Patterns:
    """The patterns of one option. Patterns and names are compared in Unicode's normal form NFC.

    Attributes:
        option: the option's name.
        idle: the patterns that have matched nothing so far.

    Raises:
        ArgumentError: a pattern is empty, a comment or invalid.
    """

    def __init__(self, option: str, patterns: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec

        self.option = option
        lines = [normal(pattern) for pattern in patterns]
        self.idle = {pattern: _compiled(option, pattern, line) for pattern, line in zip(patterns, lines, strict=True)}
        self._matches = GitIgnoreSpec.from_lines(lines).match_file

    def match(self, name: str) -> bool:
        """Whether the last of the patterns that match a name is not negated."""
        name = normal(name)
        if self.idle:
            self.idle = {key: spec for key, spec in self.idle.items() if spec.match_file(name) is None}
        return self._matches(name)


def _compiled(option: str, pattern: str, line: str) -> Any:
    """A single pattern as a compiled object of pathspec."""
    from pathspec import GitIgnoreSpec

    try:
        (compiled,) = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        compiled = None
    if compiled is None or compiled.include is None:
        fix = f": write '\\{pattern}'" if pattern.startswith("#") else ""
        said = "is a comment" if fix else "is not a pattern as in .gitignore" if pattern.strip() else "is empty"
        raise ArgumentError(f"{option} '{pattern}' {said} and would match nothing{fix}")
    return compiled
