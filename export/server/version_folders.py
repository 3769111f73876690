"""Which version folders of a model are to be served: numeric names, chosen by TensorFlow Serving's version policies."""

import re
from pathlib import Path
from typing import Any

LARGEST_VERSION = 2**63 - 1


def numbered(base: Path) -> dict[int, Path]:
    """Version folders below a model's base folder, by number, newest first. Names that are no number are not looked at.

    Raises:
        OSError: the base folder cannot be read.
    """
    found = {}
    for path in base.iterdir():
        if re.fullmatch(r"\d+", path.name, re.ASCII) and int(path.name) <= LARGEST_VERSION and path.is_dir():
            found[int(path.name)] = path
    return dict(sorted(found.items(), reverse=True))


def chosen(found: dict[int, Path], policy: Any) -> dict[int, Path]:
    """The versions that a policy wants.

    Args:
        found: version folders by number, newest first.
        policy: ServableVersionPolicy: latest (the default, num_versions 1), all, or specific versions.
    """
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return found
    if choice == "specific":
        return {number: path for number, path in found.items() if number in policy.specific.versions}
    count = max(policy.latest.num_versions, 1)
    return dict(list(found.items())[:count])


def fingerprint(folder: Path) -> tuple:
    """Names, sizes and times of all files: changes when someone goes on writing a version that could not be loaded."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


def find_models(serving: Path, name: str = "") -> dict[str, Path]:
    """Models in a folder: the folder itself, if it holds version folders, else those below that do.

    Args:
        serving: SERVING/1 or SERVING/NAME/1.
        name: of the one model to serve; "" for the folder's name, or for all.

    Returns:
        Base folder by model name.

    Raises:
        ValueError: there is no model there, or not the one of that name.
    """
    if not serving.is_dir():
        raise ValueError(f"{serving} is no folder")
    if numbered(serving):
        return {name or serving.resolve().name: serving.resolve()}
    below = {base.name: base.resolve() for base in sorted(serving.iterdir()) if base.is_dir() and numbered(base)}
    models = {name: below[name]} if name in below else below if not name else {}
    if not models:
        wanted = f"{name}/1" if name else "1 or NAME/1"
        raise ValueError(f"{serving} holds no model: there is no version folder such as {wanted} in it")
    return models
