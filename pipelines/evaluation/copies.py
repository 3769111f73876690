"""Counts the queries of which the database contains copies, which any network finds."""

from pathlib import Path

from ..copies.find import find_copies
from .ground_truth import GroundTruth


def copies_in_database(truth: GroundTruth, photos: Path, *, accept_truncated: bool = False) -> dict[str, list[str]]:
    """Finds, for each query, the photos of the database that are copies of its photo.

    The query's own photo does not count, whether or not the protocol leaves it in the database. Distractors are not
    compared. A query that is a part of its photo counts if the whole photo has a copy.

    Args:
        truth: the ground truth.
        photos: folder of the photos.
        accept_truncated: whether a JPEG that lacks its last bytes is read, with grey in place of what is missing.

    Returns:
        A dict from the name of each query with a copy to the names of its copies in the database, sorted.
    """
    names = sorted({*truth.database, *truth.queries})
    groups = find_copies(photos, names, accept_truncated=accept_truncated).groups
    of_name: dict[str, list[str]] = {name: group.names for group in groups for name in group.names}
    database = set(truth.database)
    found = {query: sorted(database & set(of_name.get(query, [])) - {query}) for query in truth.queries}
    return {query: copies for query, copies in found.items() if copies}
