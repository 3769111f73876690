"""Searches an index with query photos: `keras-retrieval search INDEX QUERY.jpg --html page.html`."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.command.options import takes
from keras_retrieval.pipelines.descriptors.query_descriptors import describe_queries, list_queries
from keras_retrieval.pipelines.files.durable import read_manifest, write_file
from keras_retrieval.pipelines.photos.object_folders import find_objects
from keras_retrieval.pipelines.photos.query_box import parse_box

from keras_retrieval.errors import ArgumentError, printable

from ..folder_index.layout import KIND, VERSION
from ..index_contract.calibration import probability_text
from ..index_contract.photo_crops import box_text
from ..milvus_index.address import is_milvus
from .calibrated import open_calibration
from .open_index import open_index, place_to_read
from .page import search_page
from .ranking import SearchResult, own_names, rank_by_methods, require_one_row, search_queries
from .scoring import average_precisions, mean_as_text
from .search_options import SearchOptions
from .verified_search import VerifiedSearch, open_local_features


@takes(SearchOptions)
def search(options: SearchOptions) -> list[SearchResult]:
    """Finds the photos of an index that are most similar to query photos.

    Queries are described with the network, the size and the scales with which the index was made. In an index of edge
    maps, queries that are line drawings are used directly, and other photos are converted to edge maps. A query photo
    that is in the index is not among its own neighbours. With --rerank, query-time methods rank all stored descriptors
    of the index exactly. Of an index with crops, the best crop of each photo counts: its box is printed after the score
    and drawn on the page.

    With --verify N, the local features of the first N neighbours are matched with those of the query (with --box, only
    those inside the box), and photos with at least 20 matches that agree on a view come first. The number of these
    matches and the box around them are printed after the score.

    Of an index with a calibration (`calibrate`), the probability that a photo shows the object of the query is printed,
    too. With --min-probability 0.9, only photos with at least this probability are given, or "no match". With --verify
    the probabilities are those of the matches, and tell more.

    Returns:
        The neighbours of each query that could be read.

    Raises:
        ArgumentError: an option is out of range; two options are given that cannot be combined; an option cannot be
            applied to the index, such as --sketch to an index of photos, or --model with another network than that of
            the index; or no query can be read.
        PhotoFolderError: with --score, the folders of the photos do not show which photos are of one object.
        FolderError, CollectionError: the index cannot be opened; see `open_index`.
        RemoteError: the storage of an index at an address does not answer, or refuses.
        IndexFileNotFoundError: a query photo does not exist.
        CalibrationError: with --min-probability, the index has no calibration, it is of another network, or it cannot
            promise this probability.
    """
    methods, place = options.methods(), place_to_read(options.index)
    if methods and not is_milvus(place):
        require_one_row(read_manifest(Path(place), kind=KIND, version=VERSION))  # before ScaNN is imported
    index = open_index(place)
    approximate = partial(index.search, exact=options.exact or options.score, where=options.filter())
    rank = rank_by_methods(index, methods) if methods else approximate
    folder = options.photos or Path(index.facts["photos"])
    objects = find_objects(index.names, folder, options.objects) if options.score else None
    if objects:
        print(objects.account)
    box = parse_box(options.box)
    paths = list_queries(options.queries)
    verified = local = None
    if options.verify:
        local = open_local_features(options.index, options.local)
        verified = VerifiedSearch(local, options.verify, options.matcher)
    facts = None if local is None else local.facts
    answers = open_calibration(
        index, options.index, options.calibration, options.min_probability, local=facts, matcher=options.matcher
    )
    described, left_out = describe_queries(index.facts, paths, options.model, box, options.sketch, options.runtime)
    for path, reason in left_out.items():
        print(f"left out: {printable(str(path))}: {reason}")
    if not described:
        raise ArgumentError("none of the query photos can be read")
    own = own_names(index, described, folder)
    k = len(index) if options.score else options.k
    answers = None if options.score else answers
    results = search_queries(rank, described, own, k, verified, box, answers, options.min_probability)
    of_photo = objects.of_photo if objects else None
    precisions = None if of_photo is None else average_precisions(of_photo, index.names, results)
    if precisions is None:
        _print(results)
    else:
        print(f"{mean_as_text(precisions)} in {len(index):,} photos")
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        write_file(options.html, search_page(index, results, options.k, precisions, folder, of_photo))
        print(f"page: {options.html.resolve()}")
    return results


def _print(results: Sequence[SearchResult]) -> None:
    for result in results:
        print(printable(str(result.query)))
        if not result.names and result.probabilities is not None:
            print("  no match")
        for place, (name, score) in enumerate(zip(result.names, result.scores, strict=True)):
            print(f"  {score:.4f}{_probability(result, place)}{_part(result, place)}  {printable(name)}")


def _probability(result: SearchResult, place: int) -> str:
    return "" if result.probabilities is None else f"  {probability_text(result.probabilities[place])}"


def _part(result: SearchResult, place: int) -> str:
    """The number of inliers of a neighbour and their box; else the box of its best crop, if there are crops."""
    if result.matches is not None:
        match = result.matches[place]
        if match is None:
            return "  not verified"
        box = "" if match.box is None else f"  {box_text(np.array(match.box))}"
        return f"  {match.inliers} inliers{box}"
    return "" if result.boxes is None else f"  {box_text(result.boxes[place])}"
