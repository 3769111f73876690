"""Photos to similar photos: `keras-retrieval search INDEX QUERY.jpg --html page.html`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import typer
from keras_retrieval.pipelines.describe import (
    Reading,
    describe_photos,
    describer,
    load_model,
    model_identity,
    smallest_side,
)
from keras_retrieval.pipelines.descriptors import read_descriptors
from keras_retrieval.pipelines.folders import write_file
from keras_retrieval.pipelines.images import PhotoError, list_photos, read_photo
from keras_retrieval.pipelines.progress import progress

from keras_retrieval.query_time import Ranker, Step, describe_methods, parse

from .report import THUMBNAIL, Neighbour, Result, page
from .scann_index import Index

Box = tuple[float, float, float, float]
Rank = Callable[[np.ndarray, int], tuple[Iterable[np.ndarray], Iterable[np.ndarray]]]
SHOWN = 24  # queries on a page; a page of thousands opens nowhere


@dataclass(frozen=True)
class Found:
    """A query's ranking.

    Attributes:
        query: its path.
        rows: row numbers in the index, best first; without the query itself.
        scores: of those rows.
        own: the query's own row in the index, or None.
    """

    query: Path
    rows: np.ndarray
    scores: np.ndarray
    own: int | None


def search(
    index: Annotated[Path, typer.Argument(help="Index folder, from `keras-retrieval index`.")],
    queries: Annotated[list[Path], typer.Argument(help="Photos to look for, or folders of them.")],
    *,
    k: Annotated[int, typer.Option("--k", "-k", help="Neighbours per query.")] = 10,
    box: Annotated[str | None, typer.Option(help="Look for this part only: left,top,right,bottom in pixels.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures.")] = None,
    model: Annotated[str | None, typer.Option(help="The network, if it is no longer where it was.")] = None,
    photos: Annotated[Path | None, typer.Option(help="The index's photos, if they are no longer there.")] = None,
    rerank: Annotated[
        str, typer.Option(help=f"Methods at query time, applied in turn, with commas between. {describe_methods()}.")
    ] = "",
    descriptors: Annotated[
        Path | None, typer.Option(help="The index's descriptors, which --rerank needs, if they are no longer there.")
    ] = None,
    score: Annotated[bool, typer.Option(help="Folders are objects: print the mAP over all queries.")] = False,
) -> list[Found]:
    """Finds the photos of an index that are most similar to query photos.

    Queries are described by the network, size and scales that the index was made with. A query that is itself in
    the index is not among its neighbours. Methods at query time rank the descriptors that the index was made of.
    """
    if k < 1:
        raise ValueError(f"--k is at least 1, not {k}")
    steps = parse(rerank)
    searcher = Index(index)
    rank = _ranker(searcher, steps, descriptors) if steps else searcher.search
    folder = photos or Path(searcher.manifest["photos"])
    paths = [path for query in queries for path in _photos_of(query)]
    described, left_out = _describe(searcher.manifest, paths, model, _parse_box(box))
    for path, reason in left_out.items():
        print(f"left out: {path}: {reason}")
    if not described:
        raise ValueError("none of the query photos can be read")
    found = _search(searcher.names, rank, described, folder, len(searcher.names) if score else k)
    figures = _average_precision(searcher.names, found) if score else None
    if figures is None:
        _print(searcher.names, found)
    else:
        print(f"{_mean_average_precision(figures)} in {len(searcher.names):,} photos")
    if html:
        results = _results(searcher.names, found, k, figures, folder)
        text = page("Similar photos", _facts(searcher, found, figures), results, _picture(searcher.manifest, folder))
        html.parent.mkdir(parents=True, exist_ok=True)
        write_file(html, text.encode(errors="backslashreplace"))
        print(f"page: {html.resolve()}")
    return found


def _photos_of(query: Path) -> list[Path]:
    if query.is_dir():
        return [query / name for name in list_photos(query)]
    if not query.exists():
        raise FileNotFoundError(f"no query photo at {query}")
    return [query]


def _parse_box(text: str | None) -> Box | None:
    if text is None:
        return None
    try:
        left, top, right, bottom = (float(number) for number in text.split(","))
    except ValueError:
        raise ValueError(f"--box {text}: give left,top,right,bottom in pixels of the query photo") from None
    return left, top, right, bottom


def _describe(
    manifest: dict[str, Any], paths: Sequence[Path], model: str | None, box: Box | None
) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Descriptors of query photos, made as the index was; and the reasons of the others."""
    identity = manifest["model"]
    name = model or identity.get("path") or identity["name"]
    given = model_identity(name)
    if name == identity.get("path") and "sha256" not in given:
        raise ValueError(f"the index's network is no longer at {name}: give its place with --model")
    if any(given.get(key) != identity.get(key) for key in ("sha256", "name")):
        raise ValueError(f"{name} is not the network that the index was made with: index again, or give that --model")
    network, scales = load_model(name), tuple(manifest["scales"])
    smallest = smallest_side(network, scales)
    reading = Reading(Path(), manifest["size"], manifest["exif"], manifest["max_pixels"], smallest)
    shapes, left_out = [], {}
    for path in dict.fromkeys(paths):
        try:
            shapes.append((reading.shape(str(path), box), path))
        except PhotoError as error:
            left_out[path] = error.reason
    shapes.sort()
    describe = describer(network, scales, manifest["bfloat16"], manifest["antialias"])
    rows: dict[Path, np.ndarray] = {}
    for batch in describe_photos(describe, shapes, lambda path: reading.read(str(path), box)):
        rows |= dict(zip(batch.keys, batch.rows, strict=True))
        left_out |= batch.left_out
    return {path: rows[path] for path in paths if path in rows}, left_out


def _ranker(index: Index, steps: list[Step], folder: Path | None) -> Rank:
    """Ranks by methods at query time, over the descriptors that the index was made of."""
    place = folder or Path(index.manifest["descriptors"])
    shards, _, manifest = read_descriptors(place)
    if manifest["fingerprint"] != index.manifest["fingerprint"]:
        raise ValueError(f"{place} are not the descriptors that the index was made of: index again")
    ranker = Ranker(shards, steps, progress)
    return lambda queries, k: ranker.rank(queries, k)


def _search(names: list[str], rank: Rank, described: dict[Path, np.ndarray], folder: Path, k: int) -> list[Found]:
    rows_of = {name: row for row, name in enumerate(names)}
    # One more than asked for, since a query may find itself.
    rows, scores = rank(np.stack(list(described.values())), k + 1)
    found = []
    for path, row, score in zip(described, rows, scores, strict=True):
        own = rows_of.get(_name_in(folder, path))
        others = row != own
        found.append(Found(path, row[others][:k], score[others][:k], own))
    return found


def _name_in(folder: Path, path: Path) -> str:
    """A photo's name in the folder of the index's photos, or its whole path if it is not there."""
    root = folder.resolve()
    # A link in the folder is a photo of its own; a link to the folder's photo is that photo.
    for place in (path.parent.resolve() / path.name, path.resolve()):
        if place.is_relative_to(root):
            return place.relative_to(root).as_posix()
    return str(path.absolute())


def _of_same_object(names: list[str], query: Found) -> np.ndarray:
    """Which photos of the index lie in a folder of the query's: (N,) bool. The query itself counts too."""
    folders = [PurePosixPath(name).parent for name in names]
    if query.own is None:
        return np.array([folder.name == query.query.absolute().parent.name for folder in folders])
    return np.array([folder == folders[query.own] for folder in folders])


def _average_precision(names: list[str], found: list[Found]) -> np.ndarray:
    """AP of each query, photos of its own folder being right; NaN where there is no other photo of it."""
    from keras_retrieval.metrics import retrieval

    if not any("/" in name for name in names):
        raise ValueError("--score needs one folder for the photos of each object, and the index's photos have none")
    positives = [np.flatnonzero(_of_same_object(names, query)) for query in found]
    positives = [rows[rows != query.own] for rows, query in zip(positives, found, strict=True)]
    if not any(map(len, positives)):
        raise ValueError("--score: no query has another photo in its folder")
    depth = max(len(query.rows) for query in found)
    ranks = np.full((depth, len(found)), -1)
    for column, query in enumerate(found):
        ranks[: len(query.rows), column] = query.rows
    return retrieval(ranks, positives).ap


def _mean_average_precision(figures: np.ndarray) -> str:
    return f"mAP {100 * np.nanmean(figures):.1f} over {np.count_nonzero(~np.isnan(figures))} queries"


def _print(names: list[str], found: list[Found]) -> None:
    for query in found:
        print(query.query)
        for row, score in zip(query.rows, query.scores, strict=True):
            print(f"  {score:.4f}  {names[row]}")


def _facts(index: Index, found: list[Found], figures: np.ndarray | None) -> list[str]:
    manifest = index.manifest
    network = Path(manifest["model"].get("path") or manifest["model"]["name"]).name
    facts = [
        f"{manifest['count']:,} photos, {manifest['dimensions']} dimensions each",
        f"{network} at {manifest['size']} px",
        f"{manifest['configuration']['kind']} search by ScaNN",
    ]
    if figures is not None:
        facts.append(_mean_average_precision(figures))
    if len(found) > SHOWN:
        facts.append(f"{SHOWN} of {len(found)} queries shown")
    return facts


def _results(names: list[str], found: list[Found], k: int, figures: np.ndarray | None, folder: Path) -> list[Result]:
    shown = np.unique(np.linspace(0, len(found) - 1, min(SHOWN, len(found))).astype(int))
    results = []
    for number in shown:
        query = found[number]
        right = None if figures is None else _of_same_object(names, query)
        neighbours = [
            Neighbour(names[row], float(score), None if right is None else bool(right[row]))
            for row, score in zip(query.rows[:k], query.scores[:k], strict=True)
        ]
        note = "query" if figures is None or np.isnan(figures[number]) else f"AP {100 * figures[number]:.0f}"
        results.append(Result(_name_in(folder, query.query), neighbours, note))
    return results


def _picture(manifest: dict[str, Any], folder: Path) -> Callable[[str], np.ndarray]:
    options = {key: manifest[key] for key in ("exif", "max_pixels")}
    return lambda name: read_photo(folder / name, size=THUMBNAIL, **options)
