"""A trunk taught to tell landmarks apart: `keras-retrieval classify PHOTOS --model vgg16_rmac --output RUN`.

The first stage of Gordo et al. (ECCV 2016): before a network learns to rank, its trunk learns to classify landmarks,
from a folder of photos for each. RUN gets model.keras (the retrieval network of the same name with the trunk that
learned), classifier.keras with landmarks.txt (the names of its outputs), history.csv, results.json and page.html,
besides photos (the cache) and checkpoint.npz, from which --resume goes on.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files.durable import fingerprint, write_file, write_names
from ..networks.files import model_identity, require_edges, save_model, smallest_side
from ..networks.precision import TRAINING_PRECISION_HELP, check_precision, resolve_precision
from ..photos.cache import PhotoCache, build_cache
from ..photos.landmark_folders import by_landmark, landmark_photos
from ..photos.reading import Reading
from .callbacks import checkpointing, figures
from .checkpoint import Checkpoint, open_run, restore
from .classification import LandmarkBatches, classifier_on, freeze_layers, numbered, set_aside
from .network import load_trainable, save_trained
from .page import classification_page

_NOT_LEARNED = ("output", "epochs", "checkpoint_steps", "resume", "min_photos")
_AT_LEAST = {
    "epochs": 1, "batch": 1, "decay": 0, "weight_decay": 0, "freeze": 0, "size": 1, "side": 32, "min_photos": 1,
    "seed": 0, "checkpoint_steps": 0,
}  # fmt: skip


def classify(
    photos: Annotated[Path, typer.Argument(help="Folder with a folder for each landmark, or what `clean` made of it.")],
    *,
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    model: Annotated[str, typer.Option(help="A .keras file, or a name such as vgg16_rmac (ImageNet weights).")] = (
        "vgg16_rmac"
    ),
    epochs: Annotated[int, typer.Option(help="Epochs in all.")] = 10,
    batch: Annotated[int, typer.Option(help="Photos in a step.")] = 32,
    lr: Annotated[float, typer.Option(help="Learning rate of the first epoch, of SGD with momentum 0.9.")] = 1e-3,
    decay: Annotated[float, typer.Option(help="The rate of epoch i is lr * exp(-decay * i).")] = 0.1,
    weight_decay: Annotated[float, typer.Option(help="Share of lr by which weights shrink in a step.")] = 5e-5,
    freeze: Annotated[
        int, typer.Option(help="Layers of the trunk, from the first, that stay; BatchNormalization always does.")
    ] = 0,
    size: Annotated[int, typer.Option(help="Longest side of the photos that squares are cut from, in pixels.")] = 362,
    side: Annotated[int, typer.Option(help="Side of the squares, in pixels.")] = 224,
    zoom: Annotated[float, typer.Option(help="Least share of the shorter side that a random square has.")] = 0.5,
    flip: Annotated[bool, typer.Option(help="Mirror half of the squares.")] = True,
    augment: Annotated[float, typer.Option(help="Strength of random brightness, contrast, saturation, 0..1.")] = 0.0,
    validation: Annotated[float, typer.Option(help="Share of each landmark's photos that is set aside.")] = 0.1,
    min_photos: Annotated[int, typer.Option(help="Landmarks with fewer photos that can be read are dropped.")] = 2,
    precision: Annotated[str, typer.Option(help=TRAINING_PRECISION_HELP)] = "float32",
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    checkpoint_steps: Annotated[int, typer.Option(help="Steps that a kill may cost; 0: an epoch.")] = 100,
    resume: Annotated[bool, typer.Option(help="Go on with RUN; --epochs may be more than before.")] = False,
) -> dict[str, Any]:
    """Fine-tunes a network's trunk by cross-entropy over landmarks, on random squares of their photos.

    The epoch of the least loss on what is set aside is kept; the last one where nothing is. Returns what results.json
    holds.
    """
    options = dict(locals())
    _check(options)
    folder, names = landmark_photos(photos)
    landmarks = _enough(by_landmark(names, folder), min_photos)
    options["precision"] = resolve_precision(precision)
    checkpoint = open_run(output, _learning(options, landmarks), resume)

    import keras

    keras.utils.set_random_seed(seed)
    network = _network(model, freeze, options["precision"])
    landmarks, cache = _readable(landmarks, folder, network, options)
    everything = LandmarkBatches(cache, *numbered(landmarks), side, batch, zoom, flip, augment, seed)
    training, aside = set_aside(everything, validation)
    classifier = _compiled(network, len(landmarks), options, training, checkpoint)
    _fit(classifier, training, aside, checkpoint, options)
    for variable, value in zip(classifier.weights, checkpoint.best, strict=True):
        variable.assign(value)
    save_trained(network, output / "model.keras")
    save_model(classifier, output / "classifier.keras")
    write_names(output / "landmarks.txt", list(landmarks))
    return _report(network.name, landmarks, training, aside, cache.left_out, checkpoint, options)


def _check(options: Mapping[str, Any]) -> None:
    check_precision(options["precision"])
    for name, least in _AT_LEAST.items():
        if not math.isfinite(options[name]) or options[name] < least:
            raise ValueError(f"--{name.replace('_', '-')} {options[name]}: it is {least} or more")
    if not (math.isfinite(options["lr"]) and options["lr"] > 0):
        raise ValueError(f"--lr {options['lr']}: it is above 0")
    if not 0.1 <= options["zoom"] <= 1:
        raise ValueError(f"--zoom {options['zoom']}: it lies in 0.1..1")
    if not (0 <= options["augment"] <= 1 and 0 <= options["validation"] < 1):
        raise ValueError("--augment lies in 0..1, and --validation is at least 0 and below 1")


def _enough(landmarks: Mapping[str, list[str]], min_photos: int) -> dict[str, list[str]]:
    """The landmarks that have photos enough; two at least, or there is nothing to tell apart."""
    kept = {name: some for name, some in landmarks.items() if len(some) >= min_photos}
    if len(kept) < 2:
        raise ValueError(
            f"{len(kept)} of {len(landmarks)} landmarks have {min_photos} photos that can be read, and 2 are needed to "
            "tell apart: give more folders, or lower --min-photos"
        )
    if len(kept) < len(landmarks):
        print(f"dropped: {len(landmarks) - len(kept)} landmarks with fewer than {min_photos} photos")
    return kept


def _learning(options: Mapping[str, Any], landmarks: Mapping[str, list[str]]) -> dict[str, Any]:
    """What decides the weights, JSON-able: a run that goes on must have the same."""
    chosen = {name: value for name, value in options.items() if name not in _NOT_LEARNED}
    identity = model_identity(options["model"]).get("sha256", options["model"])
    return chosen | {"model": identity, "photos": fingerprint(landmarks)}


def _readable(
    landmarks: Mapping[str, list[str]], folder: Path, network: Any, options: Mapping[str, Any]
) -> tuple[dict[str, list[str]], PhotoCache]:
    """The photos that can be read, in a cache."""
    reading = Reading(folder, max(options["size"], options["side"]), smallest=smallest_side(network))
    names, _ = numbered(landmarks)
    cache = build_cache(options["output"] / "photos", names, reading, replace=True)
    readable = {name: [one for one in some if one not in cache.left_out] for name, some in landmarks.items()}
    return _enough(readable, options["min_photos"]), cache


def _network(model: str, freeze: int, precision: str) -> Any:
    from keras_retrieval.networks.precision import set_trunk_precision

    network = load_trainable(model)
    require_edges(network, "")
    freeze_layers(network, freeze)
    if precision == "bfloat16":
        set_trunk_precision(network, "mixed_bfloat16")
    return network


def _compiled(
    network: Any, classes: int, options: Mapping[str, Any], training: LandmarkBatches, checkpoint: Checkpoint
) -> Any:
    """The classifier, compiled and where its checkpoint left it."""
    import keras

    from keras_retrieval.networks.optimizer import decayed_rate

    classifier = classifier_on(network, classes)
    rate = decayed_rate(training.steps, options["lr"], options["decay"])
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=options["weight_decay"] or None)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(optimizer, loss, metrics=[keras.metrics.SparseCategoricalAccuracy("accuracy")])
    optimizer.build(classifier.trainable_variables)
    if checkpoint.begun:
        # Keras makes the metrics' variables, which the checkpoint has values for, at their first use.
        classifier.test_on_batch(*next(iter(training.dataset(0))))
        restore(checkpoint, classifier.weights, optimizer.variables)
        print(f"going on after epoch {checkpoint.epochs}, step {checkpoint.step} of {training.steps}")
    return classifier


def _fit(
    classifier: Any,
    training: LandmarkBatches,
    aside: LandmarkBatches | None,
    checkpoint: Checkpoint,
    options: Mapping[str, Any],
) -> None:
    """Trains the epochs that are left, each on its own squares; what a kill interrupted is finished first."""
    best = "val_loss" if aside is not None else "last"
    try:
        for epoch in range(checkpoint.epochs, options["epochs"]):
            classifier.fit(
                training.dataset(epoch, checkpoint.step),
                epochs=epoch + 1,
                initial_epoch=epoch,
                validation_data=None if aside is None else aside.dataset(0),
                callbacks=[
                    figures(classifier),
                    checkpointing(
                        options["output"], checkpoint, classifier, training, best, options["checkpoint_steps"]
                    ),
                ],
                shuffle=False,
                verbose=1 if sys.stderr.isatty() else 2,
            )
    except KeyboardInterrupt:
        print(f"\nstopped; kept are {checkpoint.epochs} epochs and {checkpoint.step} steps: --resume goes on")
        raise


def _report(
    name: str,
    landmarks: Mapping[str, Sequence[str]],
    training: LandmarkBatches,
    aside: LandmarkBatches | None,
    left_out: Mapping[str, str],
    checkpoint: Checkpoint,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    output, held_out = options["output"], len(aside.names) if aside else 0
    results = {
        "network": name,
        "model": model_identity(output / "model.keras"),
        "pretrained": model_identity(options["model"]),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in options.items()},
        "landmarks": len(landmarks),
        "photos": {"training": len(training.names), "validation": held_out},
        "left_out": dict(left_out),
        "best_epoch": checkpoint.best_epoch,
        "history": checkpoint.history,
    }
    best = checkpoint.history[checkpoint.best_epoch - 1]
    facts = [
        f"{len(landmarks):,} landmarks, {len(training.names):,} photos to train on, {held_out:,} set aside",
        f"squares of {options['side']} px, SGD, {options['lr']:g} x exp(-{options['decay']:g} epoch)",
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
