"""The HTML page of `duplicates`: for each group the photo to keep, then its copies."""

from collections.abc import Sequence
from pathlib import Path

from ..pages.rankings import Case, Hit, Mark, Picture, page
from .groups import Copies, Group, Photo

MOST_GROUPS = 300  # maximum number of groups on the page
MOST_PHOTOS = 20  # maximum number of copies of each group on the page
LEGEND = "left: the photo to keep · ○ grey: same bytes · ✗ red: same photo in other bytes"


def duplicates_page(copies: Copies, photos: Path) -> str:
    """Returns the HTML page of the copies in a folder of photos.

    Args:
        copies: the copies; at most `MOST_GROUPS` groups are on the page.
        photos: folder of the photos.

    Returns:
        A self-contained HTML document without scripts.
    """
    facts = [copies.account, "no file was changed or deleted"]
    if copies.left_out:
        facts.append(f"{len(copies.left_out):,} photos cannot be read: only their bytes were compared")
    if copies.featureless:
        facts.append(f"{copies.featureless:,} photos have no details, and were compared by their colours")
    if len(copies.groups) > MOST_GROUPS:
        facts.append(f"the {MOST_GROUPS} largest groups are shown")
    cases = [_case(group, photos) for group in copies.groups[:MOST_GROUPS]]
    return page("duplicates", "Copies of photos", facts, cases=cases, legend=LEGEND)


def _case(group: Group, photos: Path) -> Case:
    kept, *others = group.photos
    note = f"{group.kind} · keep {_facts(kept)} · {len(others):,} {'copy' if len(others) == 1 else 'copies'}"
    if len(others) > MOST_PHOTOS:
        note += f", {MOST_PHOTOS} shown"
    return Case(Picture(photos / kept.name, name=kept.name), note, _hits(group, others[:MOST_PHOTOS], photos))


def _hits(group: Group, others: Sequence[Photo], photos: Path) -> list[Hit]:
    hits = []
    for photo in others:
        mark: Mark = "junk" if group.has_bytes_of_kept(photo.name) else "wrong"
        hits.append(Hit(Picture(photos / photo.name, name=photo.name), mark, _facts(photo)))
    return hits


def _facts(photo: Photo) -> str:
    size = f"{photo.size / 1024:,.0f} KB" if photo.size >= 1024 else f"{photo.size} bytes"
    return f"{photo.width} x {photo.height}, {size}" if photo.width else size
