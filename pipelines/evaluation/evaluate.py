"""A network scored by a published protocol: `keras-retrieval evaluate model.keras --dataset roxford5k --photos OXFORD`.

OUTPUT gets the folder of descriptors `database` (and `distractors`), results.json and page.html. A run that is
repeated, perhaps with other methods at query time, describes nothing again. `--bow` ranks by visual words in place
of a network, as the baseline; OUTPUT then gets a folder words-*.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from keras_retrieval import metrics
from keras_retrieval.ranking.methods import describe_methods, parse

from ..descriptors.describer import ANTIALIAS_HELP, MIRROR_HELP, parse_scales
from ..files.durable import write_file
from ..networks.precision import PRECISION_HELP, check_precision, resolve_precision
from ..pages.rankings import Case, Curve, Mark, Picture, curves, page, percent
from ..photos.edges import HELP as EDGES_HELP
from .bag_of_words import Words, by_words
from .collection import Options
from .datasets import DATASETS, load_ground_truth
from .ground_truth import GroundTruth
from .rankings import Ranking, by_descriptors
from .scores import score

SHOWN = 100  # queries on a page
HITS = 10  # photos of each ranking on it
_RECALL_TICKS = (1, 5, 10, 15, 20)


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A .keras or .onnx file, or a name such as vgg16_gem (ImageNet weights).")
    ] = None,
    *,
    dataset: Annotated[str, typer.Option(help=f"{', '.join(DATASETS)}, or your own ground truth NAME.json.")],
    photos: Annotated[Path, typer.Option(help="Folder of the dataset's photos, in any sub-folders.")],
    output: Annotated[Path, typer.Option(help="Folder for descriptors, results.json and page.html.")],
    gnd: Annotated[
        Path | None, typer.Option(help="The ground truth's file, if it is not in or beside the photos' folder.")
    ] = None,
    distractors: Annotated[
        Path | None, typer.Option(help="Folder of photos that answer nothing, or of their descriptors from `extract`.")
    ] = None,
    size: Annotated[int, typer.Option(help="Longest side in pixels; photos are never enlarged.")] = 1024,
    scales: Annotated[str, typer.Option(help="Factors joined in one descriptor, such as 1,0.7071,0.5.")] = "1",
    antialias: Annotated[bool, typer.Option(help=ANTIALIAS_HELP)] = True,
    mirror: Annotated[bool, typer.Option(help=MIRROR_HELP)] = False,
    edges: Annotated[str, typer.Option(help=EDGES_HELP)] = "",
    precision: Annotated[str, typer.Option(help=f"{PRECISION_HELP} bfloat16 prints how close it stays.")] = "float32",
    exif: Annotated[bool, typer.Option(help="Turn photos as their EXIF orientation says.")] = True,
    rerank: Annotated[
        str, typer.Option(help=f"Methods at query time, applied in turn, with commas between. {describe_methods()}.")
    ] = "",
    bow: Annotated[bool, typer.Option(help="Rank by visual words, in place of MODEL (extra sfm).")] = False,
    verify: Annotated[int, typer.Option(help="--bow: photos of each ranking that geometry orders anew.")] = 100,
    features: Annotated[int, typer.Option(help="--bow: SIFT features of a photo at most.")] = 8192,
    replace: Annotated[bool, typer.Option(help="Describe anew what OUTPUT holds of other photos or options.")] = False,
) -> dict[str, Any]:
    """Scores a network, or with --bow visual words, by a dataset's own protocol, on the photos at hand.

    Queries are cut out by their boxes at full resolution. OUTPUT keeps all descriptors, results.json (all figures,
    per query too) and page.html (each query's ranking in pictures). A partial dataset is scored on the photos that
    are there, and says so everywhere. Returns what results.json holds.
    """
    steps = parse(rerank)
    parse_scales(scales)
    check_precision(precision)
    default = exif and antialias and (scales, precision) == ("1", "float32")
    of_networks = not default or any((mirror, edges, rerank, distractors))
    _check(model, bow, size, verify, features, of_networks)
    truth = load_ground_truth(dataset, photos, gnd)
    if truth.partial:
        print(f"{truth.name} is {truth.partial}")
    output.mkdir(parents=True, exist_ok=True)
    if model is None:
        ranking = by_words(truth, photos, output, Words(size, features, verify))
    else:
        precision = resolve_precision(precision, model)
        options = Options(model, size, scales, antialias, precision, exif, mirror, edges)
        ranking = by_descriptors(truth, photos, distractors, output, options, steps, replace=replace)
    results = score(truth, ranking.ranks) | ranking.facts
    results |= {"depth": len(ranking.ranks), "left_out": ranking.left_out}
    write_file(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(output / "page.html", _page(truth, ranking, results))
    _print(ranking, results, output)
    return results


def _check(model: str | None, bow: bool, size: int, verify: int, features: int, of_networks: bool) -> None:
    if bow == (model is not None):
        raise ValueError("give a MODEL to score, or --bow for visual words" if not bow else "--bow takes no MODEL")
    if bow and of_networks:
        raise ValueError("--bow takes --size, --verify and --features: the other ways to describe are of networks")
    if size < 1 or verify < 0 or features < 1:
        raise ValueError(
            f"--size and --features are at least 1 and --verify at least 0, not {size}, {features} and {verify}"
        )


def _facts(ranking: Ranking, results: dict[str, Any]) -> list[str]:
    facts = [
        results["partial"] or f"{results['queries']:,} queries in {results['photos']:,} photos",
        *ranking.by,
        f"{results['milliseconds_per_query']:.1f} ms a query, {results['bytes_per_photo']:,} bytes a photo",
    ]
    if results["left_out"]:
        facts.append(f"{len(results['left_out'])} photos could not be read and are never found")
    return facts


def _print(ranking: Ranking, results: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    figures = list(next(iter(results["mean"].values())))
    table = Table(title=results["dataset"])
    for name in ["", *figures]:
        table.add_column(name, justify="right")
    for setting, values in results["mean"].items():
        table.add_row(setting, *(percent(name, values[name]) for name in figures))
    Console().print(table)
    print("\n".join(_facts(ranking, results)))
    print(f"figures: {output / 'results.json'}\npage: {(output / 'page.html').resolve()}")


def _page(truth: GroundTruth, ranking: Ranking, results: dict[str, Any]) -> str:
    settings = truth.settings()
    setting = "medium" if "medium" in settings else "all"
    shown = _shown(results["per_query"], setting)
    positives, junk = settings[setting]
    cases = [_case(truth, ranking, query, positives[query], junk[query], results) for query in shown]
    facts = _facts(ranking, results)
    if len(settings) > 1:
        facts.append(f"marks of the setting {setting}")
    facts.append(f"{len(shown):,} of {len(truth.queries):,} queries shown, the worst first")
    return page(f"{truth.name}: rankings", facts, results["mean"], _chart(truth, ranking.ranks), cases)


def _shown(per_query: Sequence[dict[str, Any]], setting: str) -> list[int]:
    """Queries from the worst to the best, evenly chosen where there are many."""
    worst_first = sorted(range(len(per_query)), key=lambda query: _merit(per_query[query][setting]))
    chosen = np.linspace(0, len(worst_first) - 1, min(SHOWN, len(worst_first))).astype(int)
    return [worst_first[place] for place in np.unique(chosen)]


def _merit(figures: dict[str, Any]) -> float:
    if "first hit" in figures:
        return -float(figures["first hit"] or np.inf)
    return float(next(iter(figures.values())) or 0)


def _case(
    truth: GroundTruth,
    ranking: Ranking,
    query: int,
    positives: np.ndarray,
    junk: np.ndarray,
    results: dict[str, Any],
) -> Case:
    def mark(row: int) -> Mark:
        if row in positives:
            return "right"
        return "junk" if row in junk else "wrong"

    asked = Picture(ranking.query(query), ranking.boxes[query], ranking.exif)
    figures = {key: value for key, value in results["per_query"][query].items() if key != "query"}
    note = " · ".join(_note(setting, values) for setting, values in figures.items())
    rows = ranking.ranks[:HITS, query]
    return Case(asked, note, [(Picture(ranking.photo(row), None, ranking.exif), mark(row)) for row in rows])


def _note(setting: str, figures: dict[str, Any]) -> str:
    name, value = next(iter(figures.items()))
    if name == "first hit":
        return f"first hit {value or 'none'}"
    text = "-" if value is None else f"{value}" if name == "N-S" else f"{100 * value:.0f}"
    return f"{name} {text}" if setting == "all" else f"{setting} {text}"


def _chart(truth: GroundTruth, ranks: np.ndarray) -> str:
    """Recall@N for places, else precision and recall."""
    if truth.protocol == "recall":
        ns = np.arange(1, _RECALL_TICKS[-1] + 1)
        hits = metrics.first_hits(ranks, truth.positives, truth.panoramas)
        recall = np.array(list(metrics.recall_at(hits, ns.tolist()).values()))
        return curves({"all": (ns, recall)}, "N", "recall@N", _RECALL_TICKS)
    levels = np.linspace(0, 1, 101)
    lines: dict[str, Curve] = {}
    for setting, (positives, junk) in truth.settings().items():
        positions = metrics.positive_positions(ranks, positives, junk)
        counts = [len(np.unique(one)) for one in positives]
        lines[setting] = levels, metrics.precision_recall(positions, counts, levels)
    return curves(lines, "recall", "precision (interpolated, mean over queries)", (0, 0.2, 0.4, 0.6, 0.8, 1))
