"""A training run put together and trained: photos, streams of tuples, the model, its callbacks."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.mining.hard_negatives import MiningError

from ..descriptors.describer import DescribeFn, describer
from ..networks.files import FILES, save_model, smallest_side
from ..photos.cache import PhotoCache, PhotoSource, build_cache
from ..photos.reading import Reading
from ..training_tuples.data import Tuples, TuplesError
from .callbacks import checkpointing, evaluation, figures, tensorboard, validation
from .checkpoint import Checkpoint, restore
from .evaluation import Examination, examination
from .initialization import initialize, layers_to_initialize
from .mining_callback import mining_callback
from .network import compiled, network_to_train
from .samples import COUNT, Sample, mine_samples, sample_stream, strips
from .stream import TupleStream
from .train_options import TrainOptions

INITIAL = "initial.keras"


@dataclass
class Run:
    """All that a run is made of.

    Attributes:
        options: of `train`.
        tuples: all.
        checkpoint: of what is trained so far.
        network: that learns.
        model: the network as a model of tuples, compiled.
        describe: the network as it is, from photos to descriptors.
        photos: the cache.
        stream: tuples to train on.
        validation: tuples set aside; None where there are none.
        samples: tuples to look at.
        examination: the collection to score on; None for none.
        best: by which figure the best epoch is chosen.
        began: of this process, in seconds of the monotonic clock.
    """

    options: TrainOptions
    tuples: Tuples
    checkpoint: Checkpoint
    network: Any
    model: Any
    describe: DescribeFn
    photos: PhotoCache
    stream: TupleStream
    validation: TupleStream | None
    samples: TupleStream
    examination: Examination | None
    best: str
    began: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> Path:
        """The run's folder."""
        return self.options.output

    @property
    def start(self) -> str:
        """The network that the run began with, as `extract` takes it."""
        path = self.output / INITIAL
        return str(path) if path.is_file() else self.options.model


def prepare(options: TrainOptions, tuples: Tuples, checkpoint: Checkpoint) -> Run:
    """Refuses what cannot be trained, then reads the photos and puts the run where its checkpoint left it.

    Raises:
        MiningError: too few clusters.
        ValueError: options, network, photos or collection do not fit; the message says which.
    """
    import keras

    keras.utils.set_random_seed(options.seed)
    network = network_to_train(options)
    reading = Reading(options.photos, options.size, smallest=smallest_side(network), edges=options.edges)
    side = reading.longest()
    _stream(options, tuples, reading, side)  # too few clusters are told before photos are read
    held_out = _validation_negatives(options, tuples, reading, side)
    best, exam = _best(options, held_out > 0), _examination(options)
    cache = options.cache or options.output / "photos"
    photos = build_cache(cache, tuples.images, reading, replace=options.cache is None)
    stream = _stream(options, tuples, photos, side)
    aside = _stream(options, tuples, photos, side, held_out) if held_out else None
    samples = sample_stream(
        tuples, stream.pairs, photos, side=side, negatives=options.negatives, pool=options.pool, seed=options.seed
    )
    if not checkpoint.begun:
        _initialize(options, network, tuples, photos)
    model, describe = compiled(network, options, stream.steps), describer(network)
    if checkpoint.begun:
        restore(checkpoint, network.weights, model.optimizer.variables)
        stream.restore(checkpoint.stream)
        print(f"going on after epoch {checkpoint.epochs}, step {checkpoint.step} of {stream.steps}")
    else:
        checkpoint.samples = [list(sample) for sample in mine_samples(samples, describe)]
    return Run(
        options, tuples, checkpoint, network, model, describe, photos, stream, aside, samples, exam, best
    )  # fmt: skip


def fit(run: Run) -> None:
    """Trains the epochs that are left; what a kill interrupted is finished first.

    Raises:
        TrainingError: the loss is no longer finite.
        KeyboardInterrupt: after saying how to go on.
    """
    try:
        if run.checkpoint.step:
            _fit(run, until=run.checkpoint.epochs + 1)
        _fit(run, until=run.options.epochs)
    except KeyboardInterrupt:
        epochs, step = run.checkpoint.epochs, run.checkpoint.step
        print(f"\nstopped; kept are {epochs} epochs and {step} steps: the same command with --resume goes on")
        raise


def take_best(run: Run) -> None:
    """Gives the network the weights of the best epoch."""
    for variable, value in zip(run.network.weights, run.checkpoint.best, strict=True):
        variable.assign(value)


def _fit(run: Run, until: int) -> None:
    if run.checkpoint.epochs >= until:
        return
    run.model.fit(
        run.stream.dataset(run.checkpoint.step),
        epochs=until,
        initial_epoch=run.checkpoint.epochs,
        shuffle=False,
        callbacks=_callbacks(run),
        verbose=1 if sys.stderr.isatty() else 2,
    )


def _callbacks(run: Run) -> list[Any]:
    """In the order in which figures are added and then kept."""
    options = run.options
    computed = run.model.last_step if options.refresh else None
    callbacks = [mining_callback(run.stream, run.describe, computed, run.checkpoint.step), figures(run.model)]
    if run.validation is not None:
        callbacks.append(validation(run.model, run.validation, run.describe))
    if run.examination is not None:
        callbacks.append(evaluation(run.network, run.examination, options.every))
    if options.tensorboard:
        callbacks.append(tensorboard(options.output / "tensorboard", lambda: _pictures(run)))
    callbacks.append(
        checkpointing(options.output, run.checkpoint, run.model, run.stream, run.best, options.checkpoint_steps)
    )
    return callbacks


def _pictures(run: Run) -> Sequence[Any]:
    """The first tuples of the epoch."""
    assert run.stream.tuples is not None
    named = [[run.tuples.images[row] for row in rows] for rows in run.stream.tuples[:COUNT].tolist()]
    return strips([Sample(query, positive, negatives) for query, positive, *negatives in named], run.photos)


def _initialize(options: TrainOptions, network: Any, tuples: Tuples, photos: PhotoSource) -> None:
    """Gives layers the beginning that they ask for, and writes the network as it then is, to be compared with."""
    version = options.initialize
    if version == "auto":
        built = Path(options.model).suffix not in FILES
        version = "v1" if built and layers_to_initialize(network) else "none"
    path = options.output / INITIAL
    path.unlink(missing_ok=True)
    if version == "none":
        return
    aside = np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation
    names = [tuples.images[row] for row in np.flatnonzero(~aside)]
    initialize(network, photos, names, version, options.seed)
    save_model(network, path)


def _stream(
    options: TrainOptions, tuples: Tuples, photos: PhotoSource, side: int, validation_negatives: int = 0
) -> TupleStream:
    """Tuples to train on, or with so many negatives those for validation."""
    aside = validation_negatives > 0
    return TupleStream(
        tuples,
        photos,
        side=side,
        negatives=validation_negatives or options.negatives,
        queries=options.queries,
        pool=options.pool,
        batch=options.batch,
        padded=options.padded,
        seed=options.seed,
        validation=aside,
        augment=None if aside else options.augmentation(),
        refresh=0 if aside else options.refresh,
        positive=options.positive,
        sample=options.sample,
        remember=options.remember and not aside,
    )


def _validation_negatives(options: TrainOptions, tuples: Tuples, photos: PhotoSource, side: int) -> int:
    """As many as the clusters set aside allow, up to those of the training; 0 for no validation."""
    if tuples.validation is None or not tuples.validation[tuples.qidxs].any():
        return 0
    for negatives in range(options.negatives, 0, -1):
        try:
            _stream(options, tuples, photos, side, negatives)
        except MiningError:
            continue
        if negatives < options.negatives:
            print(f"validation takes {negatives} of {options.negatives} negatives for a query: its clusters are few")
        return negatives
    print("no validation: all that is set aside may show one object, so that a query has no negatives")
    return 0


def _best(options: TrainOptions, validation: bool) -> str:
    best = options.best or ("loss" if validation else "last")
    if best == "loss" and not validation:
        raise TuplesError(
            "--best loss needs validation: `keras-retrieval tuples ... --validation 0.1` sets pairs aside"
        )
    return {"loss": "val_loss"}.get(best, best)


def _examination(options: TrainOptions) -> Examination | None:
    if options.dataset is None or options.dataset_photos is None:
        return None
    return examination(
        options.dataset, options.dataset_photos, options.gnd, options.output / "evaluation",
        size=options.test_size, scales=options.scales, precision=options.precision, mirror=options.mirror,
        edges=options.edges,
    )  # fmt: skip
