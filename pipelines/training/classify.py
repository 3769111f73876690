"""The step `classify`: `keras-retrieval classify PHOTOS --model vgg16_rmac --output RUN`.

This is the first training stage of Gordo et al. (ECCV 2016): the trunk of a network learns to classify landmarks, from
one folder of photos per landmark, before the network is trained for retrieval. The step writes to the folder RUN
model.keras (the retrieval network with the trained trunk), classifier.keras (the classifier) with landmarks.txt (the
landmark of each of the classifier's outputs), history.csv, results.json and page.html, as well as photos (the cache of
resized photos) and checkpoint.npz, from which --resume continues.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_retrieval.errors import ArgumentError

from ..command.options import takes
from ..files.durable import write_file, write_names
from ..networks.files import model_identity, require_edges, save_model, smallest_side
from ..networks.precision import resolve_precision
from ..photos.cache import PhotoCache, build_cache
from ..photos.landmark_folders import landmark_photos
from ..photos.reading import Reading
from .callbacks import checkpointing, figures
from .checkpoint import Checkpoint, open_run, precision_of_run, restore
from .classification import LandmarkBatches, classifier_on, freeze_layers, numbered, set_aside
from .classify_options import ClassifyOptions
from .network import load_trainable, save_trained
from .page import classification_page


@takes(ClassifyOptions)
def classify(options: ClassifyOptions) -> dict[str, Any]:
    """Trains the trunk of a network to classify landmarks, with the cross-entropy loss on random square photo crops.

    The weights of the epoch with the lowest validation loss are kept, or those of the last epoch if no photos are set
    aside for validation.

    Returns:
        The content of results.json: options, counts, photos that could not be read, and the metrics of each epoch.

    Raises:
        ArgumentError: an option is out of range; more layers are to be frozen than the network's trunk has; or fewer
            than two landmarks have enough readable photos.
        PhotoFolderError: `photos` does not exist or contains no photo, or its folders do not show what is a landmark.
        NetworkError: the network's file does not exist, or the network takes edge maps.
        CheckpointError: `output` contains a run that cannot be resumed with these options.
        TrainingError: the loss is no longer finite.
        OSError: a file cannot be read or written.
    """
    folder, objects = landmark_photos(options.photos, options.take, options.objects)
    landmarks = _large_enough(objects.photos, options.min_photos)
    begun = precision_of_run(options.output, options.resume)
    options = replace(options, precision=resolve_precision(options.precision, begun=begun))
    checkpoint = open_run(options.output, options.fingerprint(landmarks), options.resume)

    import keras

    keras.utils.set_random_seed(options.seed)
    network = _network(options)
    landmarks, cache = _readable(landmarks, folder, network, options)
    everything = LandmarkBatches(
        cache, *numbered(landmarks), options.side, options.batch, options.zoom, options.flip, options.augment,
        options.seed,
    )  # fmt: skip
    training, validation = set_aside(everything, options.validation)
    classifier = _compiled(network, len(landmarks), options, training, checkpoint)
    _fit(classifier, training, validation, checkpoint, options)
    for variable, value in zip(classifier.weights, checkpoint.best, strict=True):
        variable.assign(value)
    save_trained(network, options.output / "model.keras")
    save_model(classifier, options.output / "classifier.keras")
    write_names(options.output / "landmarks.txt", list(landmarks))
    return _report(network.name, landmarks, training, validation, cache.left_out, checkpoint, options)


def _large_enough(landmarks: Mapping[str, list[str]], min_photos: int) -> dict[str, list[str]]:
    """Returns the landmarks with at least `min_photos` photos.

    Raises:
        ArgumentError: fewer than two landmarks have so many photos.
    """
    kept = {name: photos for name, photos in landmarks.items() if len(photos) >= min_photos}
    if len(kept) < 2:
        raise ArgumentError(
            f"{len(kept)} of {len(landmarks)} landmarks have at least {min_photos} readable photos, but at least 2 "
            "are needed: give more folders, or lower --min-photos"
        )
    if len(kept) < len(landmarks):
        print(f"left out: {len(landmarks) - len(kept)} landmarks with fewer than {min_photos} photos")
    return kept


def _readable(
    landmarks: Mapping[str, list[str]], folder: Path, network: Any, options: ClassifyOptions
) -> tuple[dict[str, list[str]], PhotoCache]:
    """Returns the landmarks with their readable photos, and the cache of these photos."""
    reading = Reading(
        folder,
        max(options.size, options.side),
        smallest=smallest_side(network),
        accept_truncated=options.accept_truncated,
    )
    names, _ = numbered(landmarks)
    cache = build_cache(options.output / "photos", names, reading, replace=True, engine=options.chosen_engine)
    readable = {
        landmark: [name for name in photos if name not in cache.left_out] for landmark, photos in landmarks.items()
    }
    return _large_enough(readable, options.min_photos), cache


def _network(options: ClassifyOptions) -> Any:
    from keras_retrieval.networks.precision import set_trunk_precision

    network = load_trainable(options.model)
    require_edges(network, "")
    freeze_layers(network, options.freeze)
    if options.precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def _compiled(
    network: Any, classes: int, options: ClassifyOptions, training: LandmarkBatches, checkpoint: Checkpoint
) -> Any:
    """Returns the compiled classifier, with the weights of the checkpoint if the run is resumed."""
    import keras

    from keras_retrieval.networks.optimizer import decayed_rate

    classifier = classifier_on(network, classes)
    rate = decayed_rate(training.steps, options.lr, options.decay)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=options.weight_decay or None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])
    optimizer.build(classifier.trainable_variables)
    if checkpoint.started:
        # Keras creates the variables of metrics, whose values the checkpoint contains, when they are first used.
        classifier.test_on_batch(*next(iter(training.dataset(0))))
        restore(checkpoint, classifier.weights, optimizer.variables)
        print(f"resuming after epoch {checkpoint.epochs}, step {checkpoint.step} of {training.steps}")
    return classifier


def _fit(
    classifier: Any,
    training: LandmarkBatches,
    validation: LandmarkBatches | None,
    checkpoint: Checkpoint,
    options: ClassifyOptions,
) -> None:
    """Trains the remaining epochs, from the step of the checkpoint on; each epoch has other random crops."""
    best = "val_loss" if validation is not None else "last"
    try:
        for epoch in range(checkpoint.epochs, options.epochs):
            classifier.fit(
                training.dataset(epoch, checkpoint.step),
                epochs=epoch + 1,
                initial_epoch=epoch,
                validation_data=None if validation is None else validation.dataset(0),
                callbacks=[
                    figures(classifier),
                    checkpointing(options.output, checkpoint, classifier, training, best, options.checkpoint_steps),
                ],
                shuffle=False,
                verbose=1 if sys.stderr.isatty() else 2,
            )
    except KeyboardInterrupt:
        kept = f"{checkpoint.epochs} epochs and {checkpoint.step} steps of the next"
        print(f"\nstopped; the checkpoint contains {kept}: --resume continues from there")
        raise


def _report(
    name: str,
    landmarks: Mapping[str, Sequence[str]],
    training: LandmarkBatches,
    validation: LandmarkBatches | None,
    left_out: Mapping[str, str],
    checkpoint: Checkpoint,
    options: ClassifyOptions,
) -> dict[str, Any]:
    output, held_out = options.output, len(validation.names) if validation else 0
    results = {
        "network": name,
        "model": model_identity(output / "model.keras"),
        "pretrained": model_identity(options.model),
        "options": options.facts(),
        "landmarks": len(landmarks),
        "photos": {"training": len(training.names), "validation": held_out},
        "left_out": dict(left_out),
        "best_epoch": checkpoint.best_epoch,
        "history": checkpoint.history,
    }
    best = checkpoint.history[checkpoint.best_epoch - 1]
    facts = [
        f"{len(landmarks):,} landmarks, {len(training.names):,} training photos, {held_out:,} validation photos",
        f"squares of {options.side} px, SGD, learning rate {options.lr:g} x exp(-{options.decay:g} epoch)",
        f"epoch {checkpoint.best_epoch} of {checkpoint.epochs} kept: "
        + ", ".join(
            f"{figure} {best[figure]:.4f}" for figure in ("accuracy", "val_loss", "val_accuracy") if figure in best
        ),
    ]
    if left_out:
        facts.append(f"{len(left_out)} photos could not be read and are left out")
    write_file(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    write_file(output / "page.html", classification_page(f"Classification with {name}", facts, checkpoint.history))
    print("\n".join(facts))
    print(f"network: {output / 'model.keras'}\npage: {(output / 'page.html').resolve()}")
    return results
