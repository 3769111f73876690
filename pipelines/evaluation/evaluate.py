"""The step `evaluate`: scores a network on a dataset, `keras-retrieval evaluate model.keras --dataset roxford5k`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_retrieval.ranking.methods import parse

from ..command.options import takes
from ..files.durable import write_file
from ..pages.rankings import percent
from .bag_of_words import rank_by_visual_words
from .copies import copies_in_database
from .datasets import load_ground_truth
from .ground_truth import GroundTruth
from .options import EvaluateOptions
from .page import evaluation_page
from .rankings import Ranking, rank_by_descriptors
from .result_folders import PAGE, RESULTS, keep_other_results, setting_of
from .scores import lines, score


@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Scores a network, or with --bow a ranking by visual words, by the protocol of a dataset.

    Queries are cropped to their boxes at full resolution. The descriptors, results.json (the scores, also of each
    query) and page.html (the first photos of each query's ranking) are written to --output. A second run, for example
    with other methods of --rerank, reads the descriptors instead of computing them again; the results of the first are
    moved to a folder setting-HASH below --output, so that they are not lost. If photos of the dataset are
    missing, the network is scored on the photos that exist, and all results are marked as partial.

    With --verify N and a network, the first N photos of each ranking are verified by local features, which are
    written beside the descriptors; with --bow by SIFT features.

    Returns:
        The content of results.json: the dict of `scores.score`, and metadata of the ranking.

    Raises:
        ArgumentError: an option is out of range, or options cannot be combined, see `EvaluateOptions.check`.
        GroundTruthError: the dataset is unknown, its ground truth is missing or damaged, the folder of photos contains
            no photo or no query of the dataset, or the box of a query is outside its photo.
        CollectionError: a query cannot be read, or the distractors were described with other options.
        FolderError: `output` contains descriptors of other photos or options, and `replace` is False.
        OSError: a file cannot be written.
    """
    truth = _searched(load_ground_truth(options.dataset, options.photos, options.gnd, options.take), options)
    if truth.partial:
        print(f"{truth.name} is {truth.partial}")
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    if options.bow:
        ranking = rank_by_visual_words(truth, options)
    else:
        steps = parse(options.rerank)
        ranking = rank_by_descriptors(truth, options.extraction(), options.distractors, steps, options.verification())
    results = score(truth, ranking.ranks) | ranking.facts
    if ranking.plain is not None:
        results["mean_by_descriptors"] = score(truth, ranking.plain)["mean"]
    if options.copies:
        copies = copies_in_database(truth, options.photos, accept_truncated=options.accept_truncated)
        results |= {"copies_in_database": sum(query in copies for query in truth.queries), "copies": copies}
    results |= {"depth": len(ranking.ranks), "left_out": ranking.left_out, "setting": setting_of(options)}
    if kept := keep_other_results(output, results["setting"]):
        print(f"the results of another setting are kept in {kept}")
    write_file(output / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(output / PAGE, evaluation_page(truth, ranking, results, _facts(ranking, results)))
    _print(ranking, results, output)
    return results


def _searched(truth: GroundTruth, options: EvaluateOptions) -> GroundTruth:
    """The ground truth with the boxes of the queries as the options ask for them."""
    if options.whole_queries:
        return replace(truth, boxes=[])
    if options.box_side is not None:
        return replace(truth, box_side=options.box_side or None)
    return truth


def _facts(ranking: Ranking, results: Mapping[str, Any]) -> list[str]:
    facts = [
        results["partial"] or f"{results['queries']:,} queries in {results['photos']:,} photos",
        *ranking.method,
        f"{results['milliseconds_per_query']:.1f} ms per query, {results['bytes_per_photo']:,} bytes per photo",
    ]
    if "copies_in_database" in results:
        facts.append(
            f"{results['copies_in_database']:,} of {results['queries']:,} queries have a copy in the database besides "
            "their own photo"
        )
    if results["left_out"]:
        facts.append(f"{len(results['left_out'])} photos could not be read and are in no ranking")
    return facts


def _print(ranking: Ranking, results: dict[str, Any], output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    figures = list(next(iter(results["mean"].values())))
    table = Table(title=results["dataset"])
    for name in ["", *figures]:
        table.add_column(name, justify="right")
    for line, values in lines(results).items():
        table.add_row(line, *(percent(name, values[name]) for name in figures))
    Console().print(table)
    print("\n".join(_facts(ranking, results)))
    print(f"metrics: {output / RESULTS}\npage: {(output / PAGE).resolve()}")
