"""Finds the version folders of models, and selects the versions to serve by TensorFlow Serving's policies."""

import re
from pathlib import Path
from typing import Any

from .errors import ServerConfigError

LARGEST_VERSION = 2**63 - 1


def version_folders(base: Path) -> dict[int, Path]:
    """Finds the versions of a model: the sub-folders of its base folder whose names are numbers.

    Returns:
        The path of each version folder by version number, newest (largest number) first.

    Raises:
        OSError: the base folder cannot be read.
    """
    found = {}
    for path in base.iterdir():
        if re.fullmatch(r"\d+", path.name, re.ASCII) and int(path.name) <= LARGEST_VERSION and path.is_dir():
            found[int(path.name)] = path
    return dict(sorted(found.items(), reverse=True))


def select_versions(found: dict[int, Path], policy: Any) -> dict[int, Path]:
    """Selects the versions to serve.

    Args:
        found: available version folders, from `version_folders`.
        policy: ServableVersionPolicy: the latest versions (the default, with num_versions 1), all, or specific
            versions.

    Returns:
        The selected entries of `found`.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return found
    if choice == "specific":
        return {number: path for number, path in found.items() if number in policy.specific.versions}
    count = max(policy.latest.num_versions, 1)
    return dict(list(found.items())[:count])


def fingerprint(folder: Path) -> tuple:
    """Returns the names, sizes and modification times of all files in a folder, which change if a version is rewritten.

    A version that failed to load is loaded again when its fingerprint has changed.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def find_models(serving: Path, name: str = "") -> dict[str, Path]:
    """Finds models: the folder itself if it contains version folders, otherwise its sub-folders that contain some.

    Args:
        serving: folder with the structure `serving`/VERSION or `serving`/NAME/VERSION.
        name: name of the only model to serve. If the folder itself is a model, the name under which to serve it, "" for
            the folder's name; otherwise the sub-folder to serve, "" for all models.

    Returns:
        The base folder of each model, by model name.

    Raises:
        ServerConfigError: the folder does not exist, is a file, contains no model, or contains no model called `name`.
    """
    if not serving.exists():
        raise ServerConfigError(f"{serving} does not exist: keras-retrieval export-saved-model writes SERVING/NAME/1")
    if not serving.is_dir():
        raise ServerConfigError(f"{serving} is not a folder")
    if version_folders(serving):
        return {name or serving.resolve().name: serving.resolve()}
    below = {base.name: base.resolve() for base in sorted(serving.iterdir()) if base.is_dir() and version_folders(base)}
    models = {name: below[name]} if name in below else below if not name else {}
    if not models:
        wanted = f"{name}/1" if name else "1 or NAME/1"
        raise ServerConfigError(f"{serving} contains no model: it has no version folder such as {wanted}")
    return models
