"""The step `weights`: lists published files of weights and downloads them, `keras-retrieval weights get megaloc`."""

import json as json_format
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks.errors import DownloadError
from keras_retrieval.networks.published_files import (
    FILES,
    WEIGHTS_VARIABLE,
    PublishedFile,
    file_in_folder,
    weights_folder,
)

from ..command.options import Argument, Option, Options, takes
from .kinds import known_weights


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(Options):
    """The options of the step `weights`, which lists and downloads published files of weights."""

    action: Annotated[str, Argument("list, or get, which downloads the files of NAMES.", choices=("list", "get"))] = (
        field(default="list", kw_only=False)
    )
    names: Annotated[
        list[str] | None, Argument("Names of files, as the list shows them; all for the list.", kind=known_weights)
    ] = field(default=None, kw_only=False)
    json: Annotated[bool, Option("Print the list as JSON.")] = False

    def check(self) -> None:
        """Checks that `get` has names.

        Raises:
            ArgumentError: `get` has no names, or is given with --json.
        """
        super().check()
        if self.action == "get" and not self.names:
            raise ArgumentError("NAMES is empty: `keras-retrieval weights` lists the names that get takes")
        if self.action == "get" and self.json:
            raise ArgumentError("--json is for the list")


@takes(WeightsOptions)
def weights(options: WeightsOptions) -> list[Path]:
    """Lists the published files of weights that are known, or downloads some into the weights folder.

    The folder is ~/.keras-retrieval/weights, or the one that KERAS_RETRIEVAL_WEIGHTS names. A network whose file is
    there is given to every step by its name, such as `extract megaloc`. Nothing is downloaded except by `get`, which
    prints the publisher's licence first.

    Returns:
        The paths of the named files that the folder has.

    Raises:
        ArgumentError: a name is unknown, or the options do not go together.
        WeightsError: the weights folder cannot be read.
        DownloadError: a file must be fetched by hand, cannot be downloaded or is not the published one.
        DiskSpaceError: a file does not fit on the disk.
        OSError: a file cannot be written.
    """
    files = [FILES[name] for name in options.names or FILES]
    if options.action == "get":
        return [_get(file) for file in files]
    if options.json:
        print(json_format.dumps({"folder": str(weights_folder()), "files": [_facts(file) for file in files]}, indent=1))
    else:
        print("\n".join(_lines(files)))
    return [path for file in files if (path := file_in_folder(file)) is not None]


def _get(file: PublishedFile) -> Path:
    from ..files.durable import sha256_of
    from ..files.space import require_space
    from .download import download

    there = file_in_folder(file)
    if there is not None:
        known = file.sha256 if there.name == file.file else ""
        if not sha256_of(there).startswith(known):
            raise DownloadError(f"{there} is not the published file, whose SHA-256 begins with {known}: remove it")
        print(f"{file.name}: {there} is there already")
        return there
    path = weights_folder() / file.file
    print(f"{file.name}: licence: {file.publisher.licence}, {file.publisher.page}")
    if not file.url:
        raise DownloadError(f"{file.name} is not downloaded, it needs {file.publisher.needs}: {file.by_hand}")
    size = f", about {file.megabytes:,.0f} MB" if file.megabytes else ""
    print(f"{file.name}: {file.url}{size}")
    require_space(weights_folder(), int(file.megabytes * 1e6))
    try:
        download(file.url, path, sha256=file.sha256, label=file.name)
    except DownloadError as error:
        raise DownloadError(f"{error}. Or {file.by_hand}") from error
    checked = f"SHA-256 begins with {file.sha256}" if file.sha256 else "no SHA-256 is published"
    print(f"{path}: {path.stat().st_size / 1e6:,.1f} MB, {checked}")
    return path


def _facts(file: PublishedFile) -> dict[str, Any]:
    there = file_in_folder(file)
    return {
        "name": file.name,
        "family": file.publisher.title,
        "file": file.file,
        "page": file.publisher.page,
        "url": file.url or None,
        "bytes": int(file.megabytes * 1e6) or None,
        "licence": file.publisher.licence,
        "needs": file.publisher.needs or None,
        "sha256": file.sha256 or None,
        "path": None if there is None else str(there),
    }


def _lines(files: Sequence[PublishedFile]) -> Iterable[str]:
    yield f"weights folder: {weights_folder()} ({WEIGHTS_VARIABLE} names another)"
    width = max(len(file.name) for file in files)
    longest = max(len(file.file) for file in files)
    for publisher in dict.fromkeys(file.publisher for file in files):
        yield ""
        yield f"{publisher.title}: licence: {publisher.licence}; {publisher.page}"
        if publisher.needs:
            yield f"  needs {publisher.needs}"
        for file in (file for file in files if file.publisher == publisher):
            there = file_in_folder(file)
            size = f"{file.megabytes:,.0f} MB" if file.megabytes else ""
            state = ("-" if there is None else "there") + (
                "" if there is None or there.name == file.file else f": {there}"
            )
            yield f"  {file.name:{width}}  {file.file:{longest}}  {size:>8}  {state}"
