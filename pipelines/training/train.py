"""The step `train`: `keras-retrieval train tuples.npz --photos PHOTOS --model vgg16_gem --output RUN`.

The step writes to the folder RUN model.keras (the network of the best epoch with the whitening inside), trained.keras
(the same network without the whitening), history.csv, results.json and page.html, as well as photos (the cache of
resized photos), checkpoint.npz (from which --resume continues) and the descriptors for the whitening and for the
scores.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..command.options import takes
from ..files.durable import encoded_states, fingerprint
from ..networks.precision import resolve_precision
from ..photos.edges import resolve_edges
from ..photos.reading import Reading
from ..photos.remote_photos import photo_states
from ..training_tuples.checks import check
from ..training_tuples.data import Tuples
from ..training_tuples.file import read_tuples
from ..training_tuples.tuples import tuples as make_tuples
from .checkpoint import NAME, open_run, precision_of_run
from .class_draw import ClassDraw
from .comparison import finish, help_to_finish, score_pretrained
from .devices import open_devices, require_same_run
from .interpolation import interpolate
from .report import facts_of, history_table, results_of, score_table, write_report
from .run import fit, prepare, take_best
from .samples import mine_samples
from .train_options import TrainOptions
from .validation_scores import comparison_of, score_after, score_before
from .workers import Workers


@takes(TrainOptions)
def train(options: TrainOptions) -> dict[str, Any]:
    """Trains a retrieval network on tuples with hard negatives mined by the network itself, then learns a whitening.

    With `batch_classes`, it trains on batches of classes instead. The default values of options are those of the
    published recipe (Radenovic et al. TPAMI 2018; for other poolings see `recipe.RECIPES`). Pairs that are marked in
    tuples.npz as set aside are used for validation.

    Returns:
        The content of results.json: the options, counts, the metrics of each epoch, the scores, and metadata of the
        whitening.

    Raises:
        ArgumentError: an option is out of range; options cannot be combined, see `TrainOptions.check`; or an option
            cannot be applied to the network, see `network.network_to_train`.
        TuplesError: the tuples are invalid, or name photos that do not exist.
        MiningError: there are too few other clusters for the negatives of a query.
        CheckpointError: `output` contains a run that cannot be resumed with these options.
        TrainingError: the loss is no longer finite.
        OSError: a file cannot be read or written.
    """
    devices = open_devices(options.devices, options.workers)
    workers = devices.workers
    options = replace(options, tuples=workers.chief_first(lambda: _tuples_file(options)))
    tuples = read_tuples(options.tuples)
    check(tuples, options.photos, skip_missing=options.missing == "skip")
    if (batches := options.class_batches()) is not None:
        # Raises an error for too few classes before TensorFlow is imported.
        ClassDraw(tuples, Reading(options.photos, options.size), batches)
    resolve_edges(options.edges)
    begun = precision_of_run(options.output, options.resume)
    precision = workers.agree(resolve_precision(options.precision, begun=begun) if workers.is_chief else None)
    options = replace(options, precision=precision)
    made_with = options.fingerprint()
    options.output.mkdir(parents=True, exist_ok=True)
    _require_same_run(workers, options, tuples)
    checkpoint = open_run(options.output, made_with, options.resume)
    run = prepare(options, tuples, checkpoint, devices)
    scores, before = (score_pretrained(run), score_before(run)) if workers.is_chief else ({}, None)
    fit(run)
    take_best(run)
    interpolation = interpolate(run)
    samples = mine_samples(run.samples, run.describe)
    if not workers.is_chief:
        help_to_finish(run)
        print(f"worker {workers.index} of {workers.count} has finished; worker 0 writes {options.output}")
        return {"worker": workers.index}
    trained_scores, whitening = finish(run)
    validation = comparison_of(before, score_after(run))
    results = results_of(run, scores | trained_scores, whitening, validation, interpolation)
    write_report(run, results, samples)
    _print(results, options.output)
    return results


def _require_same_run(workers: Workers, options: TrainOptions, tuples: Tuples) -> None:
    if workers.count > 1:
        states = fingerprint(encoded_states(tuples.images, photo_states(options.photos, tuples.images)))
        folders = {"output": options.output} | ({"cache": options.cache.parent} if options.cache else {})
        require_same_run(workers, options.in_common(), states, folders)


def _tuples_file(options: TrainOptions) -> Path:
    """Returns the given .npz file, or else RUN/tuples.npz, which is made from the given source when a run begins."""
    if options.tuples.suffix == ".npz":
        return options.tuples
    path = options.output / "tuples.npz"
    if path.is_file() and (options.output / NAME).is_file():
        return path
    return make_tuples(
        options.tuples,
        path,
        photos=options.photos,
        # In batches of classes all photos of other classes are negatives.
        negatives=1 if options.batch_classes else options.negatives,
        objects=options.objects,
        missing=options.missing,
    )


def _print(results: dict[str, Any], output: Path) -> None:
    from rich.console import Console

    console = Console()
    for table in filter(None, (history_table(results), score_table(results))):
        console.print(table)
    print("\n".join(facts_of(results)))
    print(f"network: {output / 'model.keras'}\nmetrics: {output / 'results.json'}, {output / 'history.csv'}")
    print(f"page: {(output / 'page.html').resolve()}")
