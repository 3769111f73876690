"""Checks what options refer to, files and folders, before a step begins its work.

An :class:`~.options.Option` names its kind:

    photos: Annotated[Path, Argument("Folder of photos.", kind=Reads("folder", PhotoFolderError))]
    output: Annotated[Path, Argument("The .csv file to write.", kind=Writes("file", FolderError))]

A kind is any function of the option's name and its value that raises an error. It is called once for a value, and once
for each entry of a list, before TensorFlow is imported; so it may look at the disk, but not compute.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from keras_retrieval.errors import RetrievalError, missing_extra

from ..files.remote import SCHEMES, address_of, check_address, check_writable_address
from ..files.remote_errors import shown

if TYPE_CHECKING:
    from ..files.finished_folders import FolderKind

Kind = Callable[[str, Any], None]


class PathError(RetrievalError, ValueError, FileNotFoundError):
    """A path does not exist, or is a file where a folder is needed, or the other way round."""


@dataclass(frozen=True)
class Reads:
    """The kind of an option that names a file or folder to read, which must exist.

    Attributes:
        what: "file", "folder", or "any" of the two.
        error: class of the error.
        fix: what to do where the path does not exist, for the end of the message; "" for nothing.
        addresses: whether the step also reads addresses such as s3://BUCKET/FOLDER, which are not opened here.
    """

    what: Literal["file", "folder", "any"]
    error: type[RetrievalError] = PathError
    fix: str = ""
    addresses: bool = False

    def __call__(self, label: str, value: Any) -> None:
        """Raises an error of the class `error` if the path does not exist or is of the other sort."""
        path, named = Path(value), _named(label, value)
        if address := address_of(path):
            if not self.addresses:
                raise self.error(_not_read(label, address))
            check_address(label, path)
            return
        check_address(label, path)
        try:
            exists, folder = path.exists(), path.is_dir()
        except OSError as error:  # such as a name that is too long
            raise self.error(f"{named}: {_reason(error)}") from error
        if not exists:
            absent = f"{named}: the folder {path.parent}" if self.what == "file" and not path.parent.is_dir() else named
            raise self.error(f"{absent} does not exist{f': {self.fix}' if self.fix else ''}")
        if self.what == "folder" and not folder:
            raise self.error(f"{named} is a file, not a folder")
        if self.what == "file" and folder:
            raise self.error(f"{named} is a folder, not a file")


@dataclass(frozen=True)
class Writes:
    """The kind of an option that names a file or folder to write, which may exist.

    Attributes:
        what: "file" or "folder".
        error: class of the error.
        addresses: whether the step also writes to addresses such as s3://BUCKET/FOLDER, which are not opened here.
        made: kinds of folders without a complete manifest that the step makes, whose files it replaces.
    """

    what: Literal["file", "folder"]
    error: type[RetrievalError] = PathError
    addresses: bool = False
    made: tuple["FolderKind", ...] = ()

    def __call__(self, label: str, value: Any) -> None:
        """Raises an error of the class `error` if the place has something of the other sort or is not writable.

        A file of a folder that another step made, such as an index, is never replaced; see `finished_folders`.
        """
        path, named = Path(value), _named(label, value)
        if address := address_of(path):
            if not self.addresses:
                raise self.error(f"{_named(label, shown(address))} is an address: name a {self.what} of this machine")
            check_writable_address(label, path)
            return
        check_writable_address(label, path)
        try:
            exists, folder = path.exists(), path.is_dir()
            above = next((above for above in path.parents if above.exists()), path)
            blocked = above != path and not above.is_dir()
        except OSError as error:
            raise self.error(f"{named}: {_reason(error)}") from error
        if self.what == "file" and folder:
            raise self.error(f"{named} is a folder: name a file")
        if self.what == "folder" and exists and not folder:
            raise self.error(f"{named} is a file: name a folder")
        self._check_owner(named, path)
        if blocked:
            raise self.error(f"{named} cannot be written: {above} is a file, where a folder is needed")
        if not exists and not os.access(above, os.W_OK | os.X_OK):
            raise self.error(f"{named} cannot be written: no permission to write to {above}")

    def _check_owner(self, named: str, path: Path) -> None:
        from ..files.finished_folders import other_contents, owner_of

        if self.what == "folder":
            if contents := other_contents(path, self.made):
                raise self.error(f"{named} contains {contents}, of which a file would be replaced: name another folder")
        elif owner := owner_of(path, self.made):
            raise self.error(f"{named} is part of {owner[0]}, which contains {owner[1]}: name another file")


def takes_addresses(kind: Kind) -> Kind:
    """Marks a function that is the kind of an option which takes addresses of files too, or refuses them itself."""
    kind.addresses = True  # type: ignore[attr-defined]
    return kind


def refuse_address(kind: Kind, label: str, value: Any) -> None:
    """Refuses an address of files as the value of an option whose kind does not take any.

    Otherwise pathlib would make s3:/BUCKET of s3://BUCKET, and the step a folder of the name "s3:".

    Raises:
        PathError: the value is an address, and the kind is neither marked with `takes_addresses` nor checks it itself.
    """
    if not hasattr(kind, "addresses") and isinstance(value, str | Path):
        address = address_of(value)
        if address and address.partition(":")[0] in SCHEMES:
            raise PathError(_not_read(label, address))


def _not_read(label: str, address: str) -> str:
    return (
        f"{_named(label, shown(address))} is an address, and this option takes files of this machine: copy them here "
        "first"
    )


def checked_by_the_step(label: str, value: Any) -> None:
    """The kind of a path that the step itself checks first, because what it needs depends on other options."""


def require_package(module: str, name: str, extra: str) -> None:
    """Checks that a package of an extra is installed, without importing it.

    Args:
        module: the name of its module, such as "pycolmap".
        name: the name of the package as the message should show it, such as "COLMAP".
        extra: the extra of keras-retrieval that installs the package, such as "sfm".

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise missing_extra(name, extra)


def _named(label: str, value: Any) -> str:
    return f"{label} {value}" if label.startswith("-") else str(value)


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]
