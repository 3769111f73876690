"""The order in which people expect names of files: folder by folder, with numbers compared by value."""

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

_NUMBERS = re.compile(r"([0-9]+)")
Key: TypeAlias = list[str | tuple[int, str]]


def natural_key(text: str) -> Key:
    """Makes a key by which texts are sorted without regard to case, and numbers within them by value.

    Letters with accents follow the same letters without.
    """
    plain = text if text.isascii() else unicodedata.normalize("NFD", text)
    parts: Key = list(_NUMBERS.split(plain.casefold()))
    for place in range(1, len(parts), 2):
        digits = str(parts[place]).lstrip("0")
        parts[place] = (len(digits), digits)
    return parts


def natural_order(names: Sequence[str]) -> list[int]:
    """Sorts names of photos by their folder and then by their name in the folder.

    Args:
        names: paths relative to the photo folder, with slashes.

    Returns:
        The positions of the names in natural order. Names that differ only in case or in leading zeros are ordered by
        their characters.
    """
    folders: dict[str, list[Key]] = {}

    def key(row: int) -> tuple[list[Key], Key, str]:
        folder, _, file = names[row].rpartition("/")
        if folder not in folders:
            folders[folder] = [natural_key(part) for part in folder.split("/")] if folder else []
        return folders[folder], natural_key(file), names[row]

    return sorted(range(len(names)), key=key)
