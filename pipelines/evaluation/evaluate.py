"""A network scored by a published protocol: `keras-retrieval evaluate model.keras --dataset roxford5k --photos OXFORD`.

OUTPUT gets the folder of descriptors `database` (and `distractors`), results.json and page.html. A run that is
repeated, perhaps with other methods at query time, describes nothing again. `--bow` ranks by visual words in place
of a network, as the baseline; OUTPUT then gets a folder words-*.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from keras_retrieval.ranking.methods import describe_methods, parse

from ..descriptors.describer import ANTIALIAS_HELP, MIRROR_HELP, parse_scales
from ..files.durable import write_file
from ..networks.precision import PRECISION_HELP, check_precision, resolve_precision
from ..pages.rankings import percent
from ..photos.edges import HELP as EDGES_HELP
from .bag_of_words import Words, by_words
from .collection import Options
from .datasets import DATASETS, load_ground_truth
from .page import evaluation_page
from .rankings import Ranking, by_descriptors
from .scores import score


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
    write_file(output / "page.html", evaluation_page(truth, ranking, results, _facts(ranking, results)))
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
