"""The rules by which files of a folder of photos are ignored: names of systems, hidden names, and patterns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
_RESOURCE_FORK = "macOS' resource forks (._*)"
_BIN = "a bin (.Trash-*)"
_HIDDEN = "hidden (the name begins with a dot)"
_EXCLUDED = "it matches --exclude"
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
    """

    def __init__(self, rules: IntakeRules) -> None:
        self._rules = rules
        self._included, self._excluded = _matcher(rules.include), _matcher(rules.exclude)

    def of_folder(self, name: str, path: str) -> str:
        """Returns the rule by which a folder is ignored with everything in it, or "".

        Args:
            name: the name of the folder.
            path: its path relative to the folder of photos.
        """
        return self._of_name(name) or (_EXCLUDED if self._excluded and self._excluded(f"{path}/") else "")

    def of_file(self, name: str, path: str) -> str:
        """Returns the rule by which a file is ignored, or "".

        Args:
            name: the name of the file.
            path: its path relative to the folder of photos.
        """
        if rule := self._of_name(name):
            return rule
        if self._excluded and self._excluded(path):
            return _EXCLUDED
        return _NOT_INCLUDED if self._included and not self._included(path) else ""

    def _of_name(self, name: str) -> str:
        lower = name.lower()
        if not self._rules.system_files:
            if name.startswith("._"):
                return _RESOURCE_FORK
            if known := _SYSTEM_FOLDERS.get(lower) or _SYSTEM_FILES.get(lower):
                return known
            if known := _LIBRARIES.get(lower[lower.rfind(".") :]):
                return known
            if lower.startswith(".trash-"):
                return _BIN
        if not self._rules.hidden and name.startswith(".") and not name.startswith(".."):
            return _HIDDEN
        return ""


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool] | None:
    """A function that tells whether a name matches one of the patterns; None if there are none."""
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns).match_file
