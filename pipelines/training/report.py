"""What a training run says at its end: results.json, page.html, a table."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.durable import write_file
from ..networks.files import model_identity
from ..pages.rankings import percent
from ..training_tuples.data import statistics
from .comparison import LABELS
from .evaluation import Mean, rows_of
from .page import training_page
from .run import Run
from .samples import Sample

_SHOWN = ("loss", "val_loss", "negative_distance", "p")  # of the first, best and last epoch, in the table


def report(
    run: Run, scores: Mapping[str, Mean], whitening: Mapping[str, Any], late: Sequence[Sample]
) -> dict[str, Any]:
    """Writes results.json and page.html, prints a table and returns what results.json holds.

    Args:
        run: that is finished.
        scores: name of a network -> its figures on the collection; may be empty.
        whitening: how it was learned.
        late: the sample tuples as the best epoch's network finds them.
    """
    results = _results(run, scores) | {"whitening": dict(whitening)}
    if run.examination is not None:
        results["dataset"] = run.examination.truth.partial or run.examination.truth.name
    early = [Sample(*sample) for sample in run.checkpoint.samples]
    samples = {"before training": early, f"after epoch {run.checkpoint.best_epoch}": list(late)}
    write_file(run.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(
        run.output / "page.html",
        training_page(
            f"Training of {results['network']}", _facts(results), run.checkpoint.history, rows_of(dict(scores)),
            samples, run.options.photos,
        ),
    )  # fmt: skip
    _print(results, rows_of(dict(scores)), run.output)
    return results


def _results(run: Run, scores: Mapping[str, Mean]) -> dict[str, Any]:
    return {
        "network": run.network.name,
        "model": model_identity(run.output / "model.keras"),
        "pretrained": model_identity(run.start),
        "options": run.options.facts(),
        "margin": run.options.margin_for(run.network.name),
        "tuples": statistics(run.tuples),
        "left_out": run.photos.left_out,
        "epochs": run.checkpoint.epochs,
        "best_epoch": run.checkpoint.best_epoch,
        "best_by": run.best,
        "steps_per_epoch": run.stream.steps,
        "history": run.checkpoint.history,
        "scores": dict(scores),
        "seconds": round(time.monotonic() - run.began, 1),
    }


def _facts(results: Mapping[str, Any]) -> list[str]:
    options, counts = results["options"], results["tuples"]["training"]
    margin = "" if results["margin"] is None else f", margin {results['margin']:g}"
    facts = [
        f"{counts['queries']:,} queries and {counts['pairs']:,} pairs of {counts['photos']:,} photos in "
        f"{counts['clusters']:,} clusters",
        f"{options['loss']} loss{margin}, {options['negatives']} negatives, {options['batch']} tuples a step, "
        f"{results['steps_per_epoch']:,} steps an epoch",
        f"Adam, {options['lr']:g} x exp(-{options['decay']:g} epoch), L2 {options['weight_decay']:g}, "
        f"{options['size']} px {'padded' if options['padded'] else 'exact'}",
        f"epoch {results['best_epoch']} of {results['epochs']} kept, by {results['best_by']}",
    ]
    whitening = results["whitening"]
    if whitening["method"] != "none":
        shrinkage = f", shrinkage {whitening['shrinkage']:g}" if "shrinkage" in whitening else ""
        facts.append(
            f"{LABELS[whitening['method']]}, {whitening['dim']} dimensions{shrinkage}, of all pairs at "
            f"{options['test_size']} px, scales {options['scales']}"
        )
    if "dataset" in results:
        facts.append(f"scored on {options['dataset']}: {results['dataset']}")
    if results["left_out"]:
        facts.append(f"{len(results['left_out'])} photos could not be read and are left out")
    return facts


def _print(results: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], output: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(_history_table(results))
    if rows:
        console.print(_score_table(results["options"]["dataset"], rows))
    print("\n".join(_facts(results)))
    print(f"network: {output / 'model.keras'}\nfigures: {output / 'results.json'}, {output / 'history.csv'}")
    print(f"page: {(output / 'page.html').resolve()}")


def _history_table(results: Mapping[str, Any]) -> Any:
    from rich.table import Table

    history, best = results["history"], results["best_epoch"]
    shown = [name for name in _SHOWN if name in history[0]]
    table = Table("epoch", *shown, title=results["network"])
    for epoch in sorted({1, best, len(history)}):
        figures = [history[epoch - 1].get(name) for name in shown]
        table.add_row(str(epoch), *("-" if figure is None else f"{figure:.4f}" for figure in figures))
    return table


def _score_table(dataset: str, rows: Mapping[str, Mapping[str, float | None]]) -> Any:
    from rich.table import Table

    names = list(next(iter(rows.values())))
    table = Table("", *names, title=dataset)
    for network, figures in rows.items():
        table.add_row(network, *(percent(name, figures[name]) for name in names))
    return table
