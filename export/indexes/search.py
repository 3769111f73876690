"""Photos to similar photos: `keras-retrieval search INDEX QUERY.jpg --html page.html`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.descriptors.describer import describe_photos, describer
from keras_retrieval.pipelines.files.durable import write_file
from keras_retrieval.pipelines.files.progress import progress
from keras_retrieval.pipelines.networks.files import load_model, model_identity, smallest_side
from keras_retrieval.pipelines.photos.edges import SKETCH
from keras_retrieval.pipelines.photos.reader import BOX_HELP, Box, PhotoError, list_photos, parse_box, read_photo
from keras_retrieval.pipelines.photos.reading import Reading
from keras_retrieval.pipelines.photos.sketches import is_sketch

from keras_retrieval.ranking.methods import Ranker, Step, describe_methods, parse

from ..index_contract.contract import PHOTO, Filter, Hits, NeighbourIndex
from .found import Found, average_precision, mean_average_precision, name_in
from .open_index import open_index
from .page import search_page

Rank = Callable[[np.ndarray, int], list[Hits]]
ASKED = 1000  # names at once
LOOK = 256  # pixels at which a query is looked at: is it a sketch?


def search(
    index: Annotated[str, typer.Argument(help="Index, from `keras-retrieval index`: a folder or milvus://..")],
    queries: Annotated[list[Path], typer.Argument(help="Photos to look for, or folders of them.")],
    *,
    k: Annotated[int, typer.Option("--k", "-k", help="Neighbours per query.")] = 10,
    box: Annotated[str | None, typer.Option(help=BOX_HELP)] = None,
    sketch: Annotated[
        bool | None,
        typer.Option(
            "--sketch/--photo", help="What queries are, in an index of edge maps; if not given, each is looked at."
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures.")] = None,
    model: Annotated[str | None, typer.Option(help="The network, if it is no longer where it was.")] = None,
    photos: Annotated[Path | None, typer.Option(help="The index's photos, if they are no longer there.")] = None,
    rerank: Annotated[
        str, typer.Option(help=f"Methods at query time, applied in turn, with commas between. {describe_methods()}.")
    ] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Search only photos with COLUMN=TEXT; `photo=NAME` names one. Again for other texts, columns."
        ),
    ] = None,
    exact: Annotated[bool, typer.Option(help="Look at every photo, also where the index is approximate.")] = False,
    score: Annotated[bool, typer.Option(help="Folders are objects: print the mAP over all queries.")] = False,
) -> list[Found]:
    """Finds the photos of an index that are most similar to query photos.

    Queries are described by the network, size and scales that the index was made with. In an index of edge maps,
    line drawings are made edge maps as they are, other photos as those of the index. A query that is itself in the
    index is not among its neighbours. Methods at query time rank all descriptors that the index keeps.
    """
    if k < 1:
        raise ValueError(f"--k is at least 1, not {k}")
    steps = parse(rerank)
    among = _parse_where(where or [])
    if steps and (where or exact):
        raise ValueError("--rerank ranks all photos, exactly: leave --where and --exact out")
    searcher = open_index(index)
    rank = _ranker(searcher, steps) if steps else partial(searcher.search, exact=exact or score, where=among)
    folder = photos or Path(searcher.facts["photos"])
    paths = [path for query in queries for path in _photos_of(query)]
    described, left_out = _describe(searcher.facts, paths, model, parse_box(box), sketch)
    for path, reason in left_out.items():
        print(f"left out: {path}: {reason}")
    if not described:
        raise ValueError("none of the query photos can be read")
    own = _own_names(searcher, described, folder)
    found = _search(own, rank, described, len(searcher) if score else k)
    figures = average_precision(list(searcher.names), found) if score else None
    if figures is None:
        _print(found)
    else:
        print(f"{mean_average_precision(figures)} in {len(searcher):,} photos")
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_file(html, search_page(searcher, found, k, figures, folder))
        print(f"page: {html.resolve()}")
    return found


def _photos_of(query: Path) -> list[Path]:
    if query.is_dir():
        return [query / name for name in list_photos(query)]
    if not query.exists():
        raise FileNotFoundError(f"no query photo at {query}")
    return [query]


def _parse_where(conditions: list[str]) -> Filter | None:
    """The filter that `COLUMN=TEXT` and `photo=NAME` say; several texts of one column are alternatives."""
    texts: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, text = condition.partition("=")
        if not equals:
            raise ValueError(f"--where {condition}: give COLUMN=TEXT")
        texts.setdefault(column, []).append(text)
    return Filter(texts.pop(PHOTO, None), texts) if conditions else None


def _describe(
    facts: Mapping[str, Any], paths: Sequence[Path], model: str | None, box: Box | None, sketch: bool | None
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Descriptors of query photos, made as the index was; and the reasons of the others."""
    identity = facts["model"]
    name = model or identity.get("path") or identity["name"]
    given = model_identity(name)
    if name == identity.get("path") and "sha256" not in given:
        raise ValueError(f"the index's network is no longer at {name}: give its place with --model")
    if any(given.get(key) != identity.get(key) for key in ("sha256", "name")):
        raise ValueError(f"{name} is not the network that the index was made with: index again, or give that --model")
    network, scales = load_model(name), tuple(facts["scales"])
    smallest = smallest_side(network, scales)
    reading = Reading(Path(), facts["size"], facts["exif"], facts["max_pixels"], smallest, facts.get("edges", ""))
    readings, shapes, left_out = {}, [], {}
    for path in dict.fromkeys(paths):
        try:
            readings[path] = _reading(reading, path, sketch)
            shapes.append((readings[path].shape(str(path), box), path))
        except PhotoError as error:
            left_out[path] = error.reason
    shapes.sort()
    describe = describer(network, scales, facts["bfloat16"], facts["antialias"], facts.get("mirror", False))
    rows: dict[Path, np.ndarray] = {}
    for batch in describe_photos(describe, shapes, lambda path: readings[path].read(str(path), box)):
        rows |= dict(zip(batch.keys, batch.rows, strict=True))
        left_out |= batch.left_out
    return {path: rows[path] for path in paths if path in rows}, left_out


def _reading(reading: Reading, path: Path, sketch: bool | None) -> Reading:
    """How a query is read: as photos of the index are, or as a sketch."""
    if not reading.edges:
        if sketch:
            raise ValueError("the index is one of photos, not of edge maps: `extract --edges sobel`, then index again")
        return reading
    drawn = is_sketch(read_photo(path, size=LOOK, exif=reading.exif)) if sketch is None else sketch
    return replace(reading, edges=SKETCH) if drawn else reading


def _ranker(index: NeighbourIndex, steps: list[Step]) -> Rank:
    """Ranks by methods at query time, over all descriptors that the index keeps."""
    names, ranker = index.names, Ranker(index.vectors(), steps, progress)

    def rank(queries: np.ndarray, k: int) -> list[Hits]:
        pairs = zip(*ranker.rank(queries, k), strict=True)
        return [Hits([names[row] for row in rows], scores) for rows, scores in pairs]

    return rank


def _own_names(index: NeighbourIndex, described: dict[Path, np.ndarray], folder: Path) -> dict[Path, str | None]:
    """The name of each query in the index, None if it is not there. To list all names would take a large index long."""
    names = {path: name_in(folder, path) for path in described}
    known: set[str] = set()
    for start in range(0, len(names), ASKED):
        some = list(names.values())[start : start + ASKED]
        known.update(index.search(next(iter(described.values()))[None], len(some), where=Filter(some))[0].names)
    return {path: name if name in known else None for path, name in names.items()}


def _search(own: dict[Path, str | None], rank: Rank, described: dict[Path, np.ndarray], k: int) -> list[Found]:
    # One more than asked for, since a query may find itself.
    every = rank(np.stack(list(described.values())), k + 1)
    found = []
    for path, hits in zip(described, every, strict=True):
        others = np.array([other != own[path] for other in hits.names], bool)
        kept = [other for other in hits.names if other != own[path]][:k]
        found.append(Found(path, kept, hits.scores[others][:k], own[path]))
    return found


def _print(found: list[Found]) -> None:
    for query in found:
        print(query.query)
        for name, score in zip(query.names, query.scores, strict=True):
            print(f"  {score:.4f}  {name}")
