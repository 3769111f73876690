"""Prepares a run of `train` and trains its network."""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.mining.hard_negatives import MiningError
from keras_retrieval.networks.names import is_published_network

from ..descriptors.describer import DescribeFn, describer
from ..descriptors.padded_batches import add_to_buckets
from ..networks.files import load_model, save_model, smallest_side
from ..networks.kinds import FILES
from ..photos.cache import PhotoCache, PhotoSource, build_cache
from ..photos.reading import Reading
from ..training_tuples.data import Tuples, TuplesError, validation_mask
from .callbacks import agreement, checkpointing, evaluation, figures, step_progress, tensorboard, validation
from .checkpoint import Checkpoint, restore
from .class_draw import ClassDraw, drawing_callback
from .devices import ONE_DEVICE, Devices
from .epoch_draw import EpochDraw
from .evaluation import CollectionScorer, collection_scorer
from .initialization import initialize, layers_to_initialize
from .mining_callback import mining_callback
from .mining_options import MiningOptions
from .network import check_backend, compiled, network_to_train, on_jax
from .photo_descriptors import PhotoDescriptors
from .samples import COUNT, mine_samples, sample_draw, strips
from .stream import TupleStream
from .train_options import TrainOptions
from .tuple_reader import PhotoOptions
from .workers import ALONE, Workers

INITIAL = "initial.keras"
log = logging.getLogger("keras_retrieval")


@dataclass
class Run:
    """The components of a run of `train`.

    Attributes:
        options: the options of `train`.
        tuples: all tuples.
        checkpoint: the state of the run when its checkpoint was last written.
        network: the network that is trained.
        model: the compiled TupleModel that wraps the network and whose `fit` trains it.
        describe: function from photos to descriptors, by the network in its current state.
        photos: the cache of resized photos.
        stream: the stream of training tuples.
        validation: the stream of validation tuples; None if no pairs are set aside.
        samples: draws and mines a few sample tuples for the page; None if no pair has negatives.
        scorer: scores the network on a collection; None if no collection is given.
        best: the criterion for the best epoch: "val_loss", "score" or "last".
        devices: the devices on which the network is trained.
        began: time at which the run began or was resumed, in seconds of `time.monotonic`.
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
    samples: EpochDraw | None
    scorer: CollectionScorer | None
    best: str
    devices: Devices = ONE_DEVICE
    began: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> Path:
        """Folder of the run."""
        return self.options.output

    @property
    def pretrained(self) -> str:
        """Path of the .keras file, or name, of the network before training."""
        path = self.output / INITIAL
        return str(path) if path.is_file() else self.options.model


def prepare(options: TrainOptions, tuples: Tuples, checkpoint: Checkpoint, devices: Devices = ONE_DEVICE) -> Run:
    """Prepares a run: loads the network, builds the photo cache, and restores the checkpoint of a resumed run.

    Options, network, tuples and collection are checked before any photo is read.

    Args:
        options: the options of `train`.
        tuples: all tuples.
        checkpoint: the checkpoint from `open_run`.
        devices: the devices on which the network is trained.

    Raises:
        MiningError: there are too few other clusters from which the negatives of a query can be taken.
        TuplesError: `options.best` is "loss", and no pairs are set aside for validation.
        ArgumentError: an option cannot be applied to the network, see `network.network_to_train`, or a layer such as
            NetVLAD cannot be initialized from the photos, see `initialization.initialize`.
        CheckpointError: the shapes of the weights in the checkpoint differ from those of the network.
        GroundTruthError: the ground truth of the collection cannot be used.
    """
    import keras

    check_backend()
    keras.utils.set_random_seed(options.seed)
    with devices.scope():
        network = network_to_train(options)
    workers = devices.workers
    reading = Reading(
        options.photos,
        options.size,
        smallest=smallest_side(network),
        edges=options.edges,
        accept_truncated=options.accept_truncated,
    )
    jax = on_jax()
    photo_options = PhotoOptions(side=reading.longest(), padded=options.padded or jax, augment=options.augmentation())
    mining = options.mining()
    _draw(options, tuples, reading)  # raises an error for too few clusters before any photo is read
    validation_mining = _validation_mining(tuples, reading, mining)
    best, scorer = _best(options, validation_mining is not None), _scorer(options) if workers.is_chief else None

    folder = options.cache or options.output / "photos"
    photos = build_cache(
        folder, tuples.images, reading, replace=options.cache is None, engine=options.chosen_engine, sharing=workers
    )
    draw = _draw(options, tuples, photos, workers)
    stream, validation_stream = TupleStream(draw, photo_options, devices.part(draw.batch), tensors=not jax), None
    if validation_mining is not None:
        validation_draw = EpochDraw(tuples, photos, validation_mining, validation=True, workers=workers)
        held_out = replace(photo_options, augment=None)
        validation_stream = TupleStream(validation_draw, held_out, devices.whole_steps(), tensors=not jax)
    samples = _sample_draw(tuples, draw, photos, mining, workers)

    if not checkpoint.started:
        _initialize(options, network, tuples, photos, workers)
    kept = _kept(options, network, tuples, reading) if options.keep else None
    classes = draw.classes if isinstance(draw, ClassDraw) else 0
    model, describe = compiled(network, options, draw.steps, classes, devices, kept), describer(network)
    # Otherwise the shapes of batches on JAX would depend on what was described before, also in a resumed run.
    add_to_buckets(describe, {photos.shape(name) for name in photos.names})
    if checkpoint.started:
        restore(checkpoint, network.weights, model.optimizer.variables, model.extra_weights)
        draw.restore(checkpoint.stream)
        log.info("resuming after epoch %d, step %d of %d", checkpoint.epochs, checkpoint.step, draw.steps)
    else:
        checkpoint.samples = [list(sample) for sample in mine_samples(samples, describe)]
    return Run(
        options, tuples, checkpoint, network, model, describe, photos, stream, validation_stream, samples, scorer,
        best, devices,
    )  # fmt: skip


def fit(run: Run) -> None:
    """Trains the remaining epochs of a run; an interrupted epoch is continued from the step of the checkpoint.

    Raises:
        TrainingError: the loss or a weight is no longer finite, or the network's descriptors are zero or not finite.
        KeyboardInterrupt: the user interrupted the training. A warning that states how to resume is logged first.
    """
    try:
        if run.checkpoint.step:
            _fit(run, until=run.checkpoint.epochs + 1)
        _fit(run, until=run.options.epochs)
    except KeyboardInterrupt:
        log.warning(
            "stopped; the checkpoint contains %d epochs and %d steps of the next: the same command with --resume "
            "continues from there", run.checkpoint.epochs, run.checkpoint.step,
        )  # fmt: skip
        raise


def take_best(run: Run) -> None:
    """Sets the weights of the run's network to those of the best epoch."""
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
    """Returns the callbacks: first those that add metrics to the logs of an epoch, last the one that saves them."""
    options, draw, workers = run.options, run.stream.draw, run.devices.workers
    last_step = run.model.last_step if options.refresh else None
    if isinstance(draw, ClassDraw):
        callbacks = [drawing_callback(draw), figures(run.model)]
    else:
        callbacks = [mining_callback(draw, run.describe, last_step, run.checkpoint.step), figures(run.model)]
    callbacks.append(step_progress(draw.steps, options.epochs, run.checkpoint.step))
    if run.validation is not None:
        callbacks.append(validation(run.model, run.validation, run.describe))
    if run.scorer is not None:
        callbacks.append(evaluation(run.network, run.scorer, options.every))
    if options.tensorboard and workers.is_chief:
        callbacks.append(tensorboard(options.output / "tensorboard", lambda: _pictures(run)))
    if workers.count > 1:
        callbacks.append(agreement(workers))
    steps, writes = options.checkpoint_steps, workers.is_chief
    callbacks.append(checkpointing(options.output, run.checkpoint, run.model, draw, run.best, steps, writes=writes))
    return callbacks


def _pictures(run: Run) -> Sequence[Any]:
    """Returns images of the first tuples of the epoch, for TensorBoard."""
    draw = run.stream.draw
    rows = draw.mined()[:COUNT].tolist()
    return strips([[draw.names[row] for row in tuple_rows] for tuple_rows in rows], run.photos)


def _draw(
    options: TrainOptions, tuples: Tuples, photos: PhotoSource, workers: Workers = ALONE
) -> EpochDraw | ClassDraw:
    batches = options.class_batches()
    if batches is None:
        return EpochDraw(tuples, photos, options.mining(), workers=workers)
    draw = ClassDraw(tuples, photos, batches)
    if isinstance(photos, PhotoCache):
        log.info("%s", draw.account)
    return draw


def _sample_draw(
    tuples: Tuples,
    draw: EpochDraw | ClassDraw,
    photos: PhotoSource,
    mining: MiningOptions,
    workers: Workers,
) -> EpochDraw | None:
    """Chooses sample tuples for the page; with batches of classes, from the pairs, which may have too few negatives."""
    if isinstance(draw, EpochDraw):
        return sample_draw(tuples, draw.pairs, photos, mining, workers)
    pairs = np.column_stack([tuples.qidxs, tuples.pidxs])[~validation_mask(tuples)[tuples.qidxs]]
    for negatives in range(mining.negatives, 0, -1) if len(pairs) else ():
        try:
            return sample_draw(tuples, pairs, photos, replace(mining, negatives=negatives), workers)
        except MiningError:
            continue
    return None


def _initialize(options: TrainOptions, network: Any, tuples: Tuples, photos: PhotoSource, workers: Workers) -> None:
    """Initializes layers from the photos; writes the initialized network, whose scores are compared later."""
    version = options.initialize
    if version == "auto":
        built = Path(options.model).suffix not in FILES and not is_published_network(options.model)
        version = "v1" if built and layers_to_initialize(network) else "none"
    path = options.output / INITIAL
    if not workers.is_chief:
        workers.wait()
        if version != "none":
            network.set_weights(load_model(path).get_weights())
        return
    path.unlink(missing_ok=True)
    if version == "none":
        workers.wait()
        return
    set_aside = np.zeros(len(tuples.images), bool) if tuples.validation is None else tuples.validation
    names = [tuples.images[row] for row in np.flatnonzero(~set_aside)]
    initialize(network, photos, names, version, options.seed)
    save_model(network, path)
    workers.wait()


def _kept(options: TrainOptions, network: Any, tuples: Tuples, reading: Reading) -> Any:
    """Describes the training photos by the network before training, for the penalty of --keep."""
    from keras_retrieval.losses.kept_descriptors import KeptDescriptors

    if (path := options.output / INITIAL).is_file():  # of a run that is resumed
        network.set_weights(load_model(path).get_weights())
    rows = np.flatnonzero(~validation_mask(tuples))
    source = replace(reading, size=options.keep_size or options.size)
    found = PhotoDescriptors(source, tuples.images)
    found.describe(describer(network), rows)
    before = np.zeros((len(tuples.images), network.output_shape[-1]), np.float32)
    rows = rows[found.has(rows)]
    before[rows] = found.of(rows)
    log.info("keep: %s photos described before training, at %d px", f"{len(rows):,}", source.size)
    return KeptDescriptors(before, options.keep)


def _validation_mining(tuples: Tuples, photos: PhotoSource, training: MiningOptions) -> MiningOptions | None:
    """Returns the options of mining for validation, with as many negatives as possible; None for no validation."""
    if tuples.validation is None or not tuples.validation[tuples.qidxs].any():
        return None
    for negatives in range(training.negatives, 0, -1):
        options = replace(training, negatives=negatives, refresh=0, remember=False)
        try:
            EpochDraw(tuples, photos, options, validation=True)
        except MiningError:
            continue
        if negatives < training.negatives:
            log.info(
                "validation: %d of %d negatives per query, since few clusters are set aside",
                negatives,
                training.negatives,
            )
        return options
    log.info("no validation: all photos that are set aside may show one object, which leaves no negatives")
    return None


def _best(options: TrainOptions, validation: bool) -> str:
    best = options.best or ("loss" if validation else "last")
    if best == "loss" and not validation:
        raise TuplesError(
            "--best loss needs validation: `keras-retrieval tuples ... --validation 0.1` sets pairs aside"
        )
    return {"loss": "val_loss"}.get(best, best)


def _scorer(options: TrainOptions) -> CollectionScorer | None:
    if options.dataset is None or options.dataset_photos is None:
        return None
    return collection_scorer(
        options.dataset, options.dataset_photos, options.gnd, options.output / "evaluation",
        size=options.test_size, scales=options.scales, precision=options.precision, mirror=options.mirror,
        edges=options.edges,
    )  # fmt: skip
