"""Answers searches of the page."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS, PhotoError, photo_size

from keras_retrieval.errors import ArgumentError

from ..index_contract.contract import Filter, Hits, NeighbourIndex
from ..index_contract.errors import CalibrationError
from .catalogue import Catalogue
from .errors import BadRequestError, NotReadyError
from .feedback import combined
from .photo_files import PhotoFiles
from .probabilities import Judging, least_without_calibration, no_judge
from .search_request import Query, SearchRequest
from .source import PhotoSource
from .verification import HitVerifier, VerifiedPhotos

EMPTY = "No photo can be searched yet. Wait until the first photos are described: the page finds them by itself."
NONE = "No photo can be searched yet. Put photos into {folder}: the page finds them by itself."
UNREADABLE = (
    "No photo can be searched, because all were left out; the list of files left out has the reasons. Put other "
    "photos into {folder}: the page finds them by itself."
)


def search(
    source: PhotoSource,
    files: PhotoFiles,
    request: SearchRequest,
    upload_bytes: int,
    verifier: HitVerifier | None = None,
    judging: Judging = no_judge,
) -> dict[str, Any]:
    """Searches the photos of a collection.

    A query that cannot be read is answered with its reason, and the others are searched with. Names in `like` and
    `unlike` that are not searchable photos are listed in "missing". Photos to search with, unlike photos and skipped
    photos are not among the hits.

    Args:
        source: the collection.
        files: files of its photos.
        request: the search.
        upload_bytes: maximum size of a photo of the user in bytes.
        verifier: verifies and orders the first hits; None for no verification.
        judging: gives what judges hits by their probabilities.

    Returns:
        A dict for JSON: "hits" with the facts of each photo and its "score" (inner product), by descending score, and
        of an index with crops the "box" of its best crop and the "size" of the photo (width, height), in pixels, and
        with a verifier "match", see `VerifiedPhotos.verify`;
        of a calibrated index "probability"; "min_probability", the least probability of a hit, of a calibrated index;
        "seconds"; "compared", the number of photos that satisfy the filter; "queries", for each query its "width" and
        "height" in pixels or the "reason" why it cannot be used; and "missing".

    Raises:
        BadRequestError: the filter names an unknown column, or the search asks for a probability that cannot be
            promised.
        NotReadyError: there is no index yet, or it cannot be read.
    """
    started = time.monotonic()
    index, catalogue = source.index(), source.catalogue()
    if index is None:
        raise NotReadyError(_nothing_to_search(source))
    verified = None if verifier is None else VerifiedPhotos(verifier)
    facts: list[dict[str, Any]] = []
    try:
        judge = judging()
    except CalibrationError as error:
        raise NotReadyError(f"{error}.") from error
    least = None if judge is None else judge.least(request.min_probability)
    if judge is None:
        least_without_calibration(request.min_probability)
    probabilities: np.ndarray | None = None
    try:
        rows, answers = _query_rows(source, files, index, request.queries, upload_bytes, verified)
        liked, missing = _stored(index, request.like)
        unliked, also_missing = _stored(index, request.unlike)
        wanted = np.concatenate([rows, liked])
        where, compared = _condition(catalogue, request)
        hits = Hits([], np.zeros(0, np.float32))
        if len(wanted) and compared:
            own = {query.photo for query in request.queries if query.photo is not None}
            hidden = own | {*request.unlike} | {*request.skip}
            depth = request.k if verified is None else max(request.k, verified.depth)
            hits = _nearest(index, combined(wanted, unliked), depth, where, hidden)
            if verified is not None:
                hits, facts = verified.verify(hits)
            hits = hits.pick(range(min(request.k, len(hits.names))))
            facts = facts[: len(hits.names)]
        if judge is not None and least is not None:
            read = [number for number, answer in enumerate(answers) if "reason" not in answer]
            own_names = [None if request.queries[number].box else request.queries[number].photo for number in read]
            stored_likes = [name for name in request.like if name not in missing]
            numbers = [*read, *[None] * len(stored_likes)]
            of_hits = facts or [{} for _ in hits.names]
            probabilities = judge.probabilities(hits, wanted, [*own_names, *stored_likes], numbers, of_hits)
            kept = np.flatnonzero(probabilities >= least)
            hits, probabilities = hits.pick(kept), probabilities[kept]
            facts = [facts[place] for place in kept.tolist()] if facts else []
    except (OSError, FolderError) as error:
        raise NotReadyError(f"The index cannot be searched: {error}.") from error
    except ArgumentError as error:  # as while the index of another network takes over
        raise NotReadyError(f"The photo cannot be compared with the index: {error}. Try again in a moment.") from error
    found = [
        {
            **catalogue.facts(row),
            "score": round(float(score), 6),
            **_part(hits, place),
            **(facts[place] if facts else {}),
            **({} if probabilities is None else {"probability": round(float(probabilities[place]), 4)}),
        }
        for place, (name, score) in enumerate(zip(hits.names, hits.scores, strict=True))
        if (row := catalogue.row_of.get(name)) is not None
    ]
    return {
        "hits": found,
        "seconds": round(time.monotonic() - started, 4),
        "compared": compared,
        "queries": answers,
        "missing": [*missing, *also_missing],
        **({} if least is None else {"min_probability": least}),
    }


def _nothing_to_search(source: PhotoSource) -> str:
    status = source.status()
    if status.state == "ready" and status.left_out >= status.photos > 0:
        return UNREADABLE.format(folder=source.folder)
    return NONE.format(folder=source.folder) if status.state == "ready" and not status.photos else EMPTY


def _query_rows(
    source: PhotoSource,
    files: PhotoFiles,
    index: NeighbourIndex,
    queries: tuple[Query, ...],
    upload_bytes: int,
    verified: VerifiedPhotos | None,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    rows, answers = [np.zeros((0, _stored_dimensions(index)), np.float32)], []
    for number, query in enumerate(queries):
        try:
            if query.file is not None and len(query.file) > upload_bytes:
                raise PhotoError("<bytes>", f"its file is larger than {upload_bytes / 2**20:,.3g} MB")
            row, size = _described(source, files, index, query)
        except PhotoError as error:
            answers.append({"reason": error.reason})
            continue
        rows.append(row)
        if verified is not None and (file := _file(files, query)) is not None:
            verified.add(number, file, query.box)
        answers.append({"width": size[1], "height": size[0]} if size else {})
    return np.concatenate(rows), answers


def _stored_dimensions(index: NeighbourIndex) -> int:
    return int(index.vectors([]).shape[1])


def _described(
    source: PhotoSource, files: PhotoFiles, index: NeighbourIndex, query: Query
) -> tuple[np.ndarray, tuple[int, int] | None]:
    """The stored descriptor (1, S) of a query, and its height and width if they can be read."""
    path: Path | None = None
    if query.photo is not None:
        path = files.path(query.photo)
        stored, _ = _stored(index, (query.photo,) if query.box is None else ())
        if len(stored):
            return stored, None if path is None else _size(path, index)
        if path is None:
            raise PhotoError(query.photo, "its file is not among the photos any more")
    try:
        file = query.file if path is None else path.read_bytes()
    except OSError as error:
        raise PhotoError(str(query.photo), f"its file cannot be read: {error.strerror}") from None
    assert file is not None, "a query has a photo or a file"
    row = np.asarray(source.describe(file, query.box), np.float32)[None]
    return index.to_stored(row), _size(file, index)


def _file(files: PhotoFiles, query: Query) -> bytes | None:
    """The content of the file of a query; None if it cannot be read."""
    if query.photo is None:
        return query.file
    path = files.path(query.photo)
    try:
        return None if path is None else path.read_bytes()
    except OSError:
        return None


def _size(photo: Path | bytes, index: NeighbourIndex) -> tuple[int, int] | None:
    facts = index.facts
    try:
        return photo_size(photo, exif=facts.get("exif", True), max_pixels=facts.get("max_pixels", MAX_PIXELS))
    except (PhotoError, OSError):
        return None


def _stored(index: NeighbourIndex, names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """The stored descriptors of those photos that are in the index, and the names of the others."""
    try:
        return np.array(index.vectors(list(names))), []
    except ArgumentError:
        pass
    rows, missing = [np.zeros((0, _stored_dimensions(index)), np.float32)], []
    for name in names:
        try:
            rows.append(index.vectors([name]))
        except ArgumentError:
            missing.append(name)
    return np.concatenate(rows), missing


def _condition(catalogue: Catalogue, request: SearchRequest) -> tuple[Filter | None, int]:
    """The filter for the index, and the number of searchable photos that satisfy it."""
    if not request.photos.restricts:
        return None, int(catalogue.searchable.sum())
    rows = request.photos.rows(catalogue)
    rows = rows[catalogue.searchable[rows]]
    return Filter(names=[catalogue.names[row] for row in rows.tolist()]), len(rows)


def _nearest(index: NeighbourIndex, query: np.ndarray, k: int, where: Filter | None, hidden: set[str]) -> Hits:
    try:
        (hits,) = index.search(query[None], k + len(hidden), where=where)
    except ArgumentError as error:
        raise BadRequestError(f"The search is not possible: {error}.") from error
    return hits.pick([place for place, name in enumerate(hits.names) if name not in hidden][:k])


def _part(hits: Hits, place: int) -> dict[str, Any]:
    """What the page draws on a hit: the best crop, in pixels of the upright photo, and the photo's size."""
    if hits.boxes is None or hits.sizes is None:
        return {}
    return {"box": hits.boxes[place].tolist(), "size": hits.sizes[place].tolist()}
