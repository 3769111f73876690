"""Entries that are remembered between runs, in JSON files in the user's cache folder, which may be deleted."""

import json
from contextlib import suppress
from typing import Any

from .cache_folder import cache_folder
from .durable import write_file


def read_remembered(file: str) -> dict[str, Any]:
    """Returns all entries of a file by key; {} where it is missing or damaged, or nothing is to be remembered.

    Args:
        file: the name of the file in the cache folder.
    """
    folder = cache_folder()
    if folder is None:
        return {}
    try:
        entries = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def remember(file: str, key: str, entry: Any, most: int | None = None) -> None:
    """Adds an entry to a file, or replaces it; does nothing where the cache folder cannot be written.

    Args:
        file: the name of the file in the cache folder.
        key: the key of the entry.
        entry: the entry, serialisable as JSON.
        most: entries that the file has at most, of which the oldest are dropped; None for any number.
    """
    folder = cache_folder()
    if folder is None:
        return
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        entries = read_remembered(file)
        entries.pop(key, None)
        entries[key] = entry
        write_file(folder / file, json.dumps(dict(list(entries.items())[-most:] if most else entries), indent=1))
