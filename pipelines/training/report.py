"""Writes the report of a training run: results.json, page.html, and tables for the terminal."""

import json
import time
from collections.abc import Mapping, Sequence
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
from .validation_scores import comparison_text

_IN_TABLE = ("loss", "val_loss", "negative_distance", "p")


def results_of(
    run: Run,
    scores: Mapping[str, Mean],
    whitening: Mapping[str, Any],
    validation: Mapping[str, Any] | None = None,
    interpolation: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Collects the results of a finished run of `train` in a dict, which `write_report` writes to results.json.

    Args:
        run: the finished run.
        scores: dict from the name of each network to its mean scores on the collection; empty without a collection.
        whitening: metadata of the learned whitening, as `comparison.finish` returns it.
        validation: the scores on the photos that are set aside, as `validation_scores.comparison_of` returns them.
        interpolation: the share of the trained weights that is kept, as `interpolation.interpolate` returns it.

    Returns:
        A dict with, among others, the keys "options", "tuples" (counts), "left_out" (a dict from each photo that could
        not be read to the reason), "history" (for each epoch a dict from metric to value), "best_epoch" (from 1),
        "scores", "whitening" and "seconds" (of the run). "dataset" is present only if the run has a collection, and
        "validation_scores" only with the option `score_validation`.
    """
    results = {
        "network": run.network.name,
        "model": model_identity(run.output / "model.keras"),
        "pretrained": model_identity(run.pretrained),
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
        "whitening": dict(whitening),
    }
    if validation is not None:
        results["validation_scores"] = dict(validation)
    if interpolation is not None:
        results["interpolation"] = dict(interpolation)
    if run.scorer is not None:
        results["dataset"] = run.scorer.truth.partial or run.scorer.truth.name
    return results


def write_report(run: Run, results: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Writes results.json and page.html to the folder of a run.

    Args:
        run: the finished run.
        results: the results of the run, from `results_of`.
        samples: the sample tuples with the hard negatives that the trained network mined. The page shows them beside
            those mined before training.
    """
    before = [Sample(*sample) for sample in run.checkpoint.samples]
    page = training_page(
        f"Training of {results['network']}", facts_of(results), results["history"], rows_of(results["scores"]),
        {"before training": before, f"after epoch {results['best_epoch']}": samples}, run.options.photos,
    )  # fmt: skip
    write_file(run.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(run.output / "page.html", page)


def facts_of(results: Mapping[str, Any]) -> list[str]:
    """Summarises the results of a run in short lines of text: counts, options, the epoch that is kept, and whitening.

    Args:
        results: the results from `results_of`.
    """
    options, counts = results["options"], results["tuples"]["training"]
    margin = "" if results["margin"] is None else f", margin {results['margin']:g}"
    facts = [
        f"{counts['queries']:,} queries and {counts['pairs']:,} pairs of {counts['photos']:,} photos in "
        f"{counts['clusters']:,} clusters",
        f"{options['loss']} loss{margin}, {_step(options)}, {results['steps_per_epoch']:,} steps an epoch",
        f"{_OPTIMIZERS[options['optimizer']]}, {_rate(options)}, "
        f"{'weight decay' if options['optimizer'] == 'adamw' else 'L2'} {options['weight_decay']:g}, "
        f"{options['size']} px {'padded' if options['padded'] else 'exact'}",
        f"epoch {results['best_epoch']} of {results['epochs']} kept, by {results['best_by']}",
    ]
    share = results.get("interpolation", {"share": 1.0})["share"]
    if share != 1:
        facts.append(f"{share:.0%} of the trained weights, {1 - share:.0%} of those before training")
    whitening = results["whitening"]
    if whitening["method"] != "none":
        shrinkage = f", shrinkage {whitening['shrinkage']:g}" if "shrinkage" in whitening else ""
        facts.append(
            f"{LABELS[whitening['method']]}, {whitening['dim']} dimensions{shrinkage}, of all pairs at "
            f"{options['test_size']} px, scales {options['scales']}"
        )
    if "validation_scores" in results:
        facts.append(comparison_text(results["validation_scores"]))
    if "dataset" in results:
        facts.append(f"scored on {options['dataset']}: {results['dataset']}")
    if results["left_out"]:
        facts.append(f"{len(results['left_out'])} photos could not be read and are left out")
    return facts


_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


def _rate(options: Mapping[str, Any]) -> str:
    forms = {
        "exponential": f"{options['lr']:g} x exp(-{options['decay']:g} epoch)",
        "linear": f"{options['lr']:g} falling linearly to {options['lr'] * options['lr_end']:g}",
        "steps": f"{options['lr']:g} x {options['lr_factor']:.3g} after epochs {options['lr_epochs']}",
        "constant": f"{options['lr']:g}",
    }
    warm_up = f" after a warm-up of {options['warm_up']:g} epochs" if options["warm_up"] else ""
    return forms[options["schedule"]] + warm_up


def _step(options: Mapping[str, Any]) -> str:
    if not options["batch_classes"]:
        return f"{options['negatives']} negatives, {options['batch']} tuples a step"
    memory = f", memory of {options['memory']:,} descriptors" if options["memory"] else ""
    return f"{options['batch_classes'].replace('x', ' classes x ')} photos a step{memory}"


def history_table(results: Mapping[str, Any]) -> Any:
    """Makes a table, for the terminal, of the metrics of the first, the best and the last epoch of a run.

    Args:
        results: the results from `results_of`.

    Returns:
        A rich.table.Table with one row per epoch. The columns are the number of the epoch, from 1, and those of the
        metrics "loss", "val_loss", "negative_distance" and "p" that the run has.
    """
    from rich.table import Table

    history, best = results["history"], results["best_epoch"]
    names = [name for name in _IN_TABLE if name in history[0]]
    table = Table("epoch", *names, title=results["network"])
    for epoch in sorted({1, best, len(history)}):
        figures = [history[epoch - 1].get(name) for name in names]
        table.add_row(str(epoch), *("-" if figure is None else f"{figure:.4f}" for figure in figures))
    return table


def score_table(results: Mapping[str, Any]) -> Any:
    """Makes a table, for the terminal, of the scores of a run on its collection.

    Args:
        results: the results from `results_of`.

    Returns:
        A rich.table.Table with one row per network, such as "pretrained" and "trained + Lw", and the columns of
        `evaluation.rows_of`. None if the run has no collection, so that there are no scores.
    """
    from rich.table import Table

    rows = rows_of(results["scores"])
    if not rows:
        return None
    names = list(next(iter(rows.values())))
    table = Table("", *names, title=results["options"]["dataset"])
    for network, figures in rows.items():
        table.add_row(network, *(percent(name, figures[name]) for name in names))
    return table
