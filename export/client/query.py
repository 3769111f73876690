"""Searches a served index with photos: `keras-retrieval query photo.jpg --server localhost:8500`."""

import numpy as np
from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.photos.query_box import parse_box

from keras_retrieval.errors import printable

from ..contract.signatures import NOT_VERIFIED
from ..index_contract.calibration import probability_text
from ..index_contract.errors import CalibrationError
from ..index_contract.photo_crops import box_text
from .messages import ServedHits
from .options import QueryOptions


@takes(QueryOptions)
def query(options: QueryOptions) -> list[ServedHits]:
    """Finds the photos of a served index that are most similar to query photos, and prints their scores and names.

    The counterpart of the step `search` for a network and an index on another machine, served by `keras-retrieval serve
    SERVING --index INDEX` or exported together by `export-saved-model --index`. The client sends the bytes of the photo
    files. Of an index with crops, the box of the best crop of each photo is printed after its score; of a server that
    verifies, the number of points that agree with the query, and their box, and of one whose index is calibrated, the
    probability of a match, or "no match", as the step `search` prints them.

    Returns:
        The neighbours of each query photo, by descending score.

    Raises:
        ArgumentError: the box cannot be parsed.
        CalibrationError: --min-probability is given, and the index of the server is not calibrated.
        PhotoError: the server cannot read one of the photos, or the box is empty or extends beyond a photo.
        MissingPhotoError: a photo does not exist.
        ServerUnavailableError: the server cannot be reached or is not ready, after all attempts.
        ServerTimeoutError: the server has not answered before the time limit.
        RequestRefusedError: the server rejects the request, for example because the model is unknown.
    """
    box = parse_box(options.box)
    with options.connect() as client:
        found = client.search(
            options.photos, options.k, [box] * len(options.photos) if box else (), options.where or ()
        )
    found = [_likely(hits, options.min_probability) for hits in found]
    for photo, hits in zip(options.photos, found, strict=True):
        print(printable(str(photo)))
        if not hits.names and hits.probabilities is not None:
            print("  no match")
        for place, (name, score) in enumerate(zip(hits.names, hits.scores, strict=True)):
            print(f"  {score:.4f}{_probability(hits, place)}{_part(hits, place)}  {printable(name)}")
    return found


def _likely(hits: ServedHits, least: float) -> ServedHits:
    """The neighbours that are probable enough."""
    if least and hits.probabilities is None:
        raise CalibrationError(
            "--min-probability needs a calibrated index, and that of the server is not: calibrate it there with "
            "`keras-retrieval calibrate`, and start the server again"
        )
    if not least or hits.probabilities is None:
        return hits
    return hits.at(np.flatnonzero(hits.probabilities >= least))


def _probability(hits: ServedHits, place: int) -> str:
    return "" if hits.probabilities is None else f"  {probability_text(hits.probabilities[place])}"


def _part(hits: ServedHits, place: int) -> str:
    """The number of inliers of a neighbour and their box, of a server that verifies; else the box of its best crop."""
    if hits.inliers is not None and hits.match_boxes is not None:
        inliers = int(hits.inliers[place])
        if inliers == NOT_VERIFIED:
            return "  not verified"
        return f"  {inliers} inliers" + (f"  {box_text(hits.match_boxes[place])}" if inliers else "")
    return "" if hits.boxes is None else f"  {box_text(hits.boxes[place])}"
