"""Region proposals of a network: `keras-retrieval train-proposals BOXES --photos PHOTOS --model X.keras --output RUN`.

RUN gets model.keras (the network with proposals in place of R-MAC's grid), results.json (how many of the objects' boxes
proposals and the grid find in photos held out), page.html (the same, with the loss) and history.csv, besides photos
(the cache) and checkpoint.npz (what --resume goes on from).
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import typer

from ..files.durable import fingerprint, write_file
from ..networks.files import model_identity, save_model, smallest_side
from ..photos.cache import build_cache
from ..photos.object_boxes import BoxesError, read_boxes
from ..photos.reader import PhotoError
from ..photos.reading import Reading
from .callbacks import write_history
from .checkpoint import Checkpoint, open_run, restore, write_checkpoint
from .errors import TrainingError
from .network import load_trainable
from .page import proposals_page
from .proposal_photos import ProposalPhotos
from .proposal_recall import OVERLAPS, Recall, recall_of_boxes, table

MOST_PROPOSALS = 10_000  # their overlaps, all with all, are 400 MB
_LEARNING = ("proposals", "anchors", "epochs", "batch", "lr", "size", "trunk", "flip", "held_out", "seed")


def train_proposals(
    boxes: Annotated[Path, typer.Argument(help="boxes.json, from `clean`, or a folder of `sample-photos`.")],
    *,
    photos: Annotated[Path, typer.Option(help="The folder of the photos that the boxes name.")],
    output: Annotated[Path, typer.Option(help="Folder of the run.")],
    model: Annotated[str, typer.Option(help="A .keras file that pools regions, or a name such as vgg16_rmac.")] = (
        "vgg16_rmac"
    ),
    proposals: Annotated[int, typer.Option(help="Regions that a photo gets at most.")] = 256,
    anchors: Annotated[
        str, typer.Option(help="Sides of the boxes to start from, in cells of the map (16 pixels in VGG).")
    ] = "8,16,32",
    epochs: Annotated[int, typer.Option(help="Epochs in all.")] = 10,
    batch: Annotated[int, typer.Option(help="Photos in a step.")] = 4,
    lr: Annotated[float, typer.Option(help="Adam's learning rate; it falls to 0 as a cosine.")] = 1e-3,
    size: Annotated[int, typer.Option(help="Longest side of the photos, in pixels.")] = 512,
    trunk: Annotated[bool, typer.Option("--trunk/--frozen", help="The trunk learns, too, or stays as it is.")] = False,
    flip: Annotated[bool, typer.Option(help="Mirror every other photo.")] = True,
    held_out: Annotated[
        float, typer.Option(help="Share of the folders of photos (of the photos where there are none) held out.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of the resized photos; RUN/photos if not given.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with RUN.")] = False,
) -> dict[str, Any]:
    """Teaches a network where objects are: its regions are proposed from then on, and no rigid grid.

    The network is that of Gordo et al. ECCV 2016; only the proposals learn, unless --trunk. Returns what results.json
    holds.

    Raises:
        ValueError: an option is out of range, the network pools no regions, or boxes and photos do not fit.
    """
    options = {name: value for name, value in locals().items() if name in _LEARNING}
    _check(**options)
    known = read_boxes(boxes)
    names, aside = split(list(known), held_out, seed)
    options["boxes"] = fingerprint({name: rows.tolist() for name, rows in known.items()})
    options["model"] = model_identity(model).get("sha256", model)
    checkpoint = open_run(output, options, resume)
    learner = _learner(load_trainable(model), proposals, _sides(anchors), trunk, seed)
    reading = Reading(photos, size, smallest=smallest_side(learner.network))
    shares, left_out = _shares(known, Reading(photos, None))
    learned = [name for name in names if name in shares]
    # The run's own folder is made anew where photos have changed since; another's is not.
    store = build_cache(cache or output / "photos", learned, reading, replace=cache is None)
    side = max(size, reading.smallest)
    grid, cells = learner.anchors(side)
    data = ProposalPhotos(store.names, shares, store, side, grid, cells, batch, flip, seed)
    _fit(learner, data, checkpoint, output, epochs, lr)
    network = learner.release()
    save_model(network, output / "model.keras")
    rows = recall_of_boxes(network, [name for name in aside if name in shares], shares, reading)
    facts = {"learned from": len(store.names), "held out": len(aside), "recall": [asdict(row) for row in rows]}
    facts |= {"left_out": left_out | store.left_out | data.left_out, "options": options}
    write_file(output / "results.json", json.dumps(facts, indent=1, ensure_ascii=False))
    summary = f"learned from {len(store.names)} photos, {len(aside)} held out"
    found = {f"{row.regions}, {row.count:.0f} a photo": _found(row) for row in rows}
    text = proposals_page(f"Region proposals of {network.name}", [summary], checkpoint.history, found)
    write_file(output / "page.html", text)
    print(f"{output / 'model.keras'}: {network.name}, learned from {len(store.names)} photos")
    if rows:
        print(f"{len(aside)} photos held out\n{table(rows)}")
    elif aside:
        print(f"{len(aside)} photos held out, and none of them can be read and has a box to be found")
    print(f"page: {(output / 'page.html').resolve()}")
    return facts


def _found(row: Recall) -> dict[str, float | None]:
    return {f"boxes at overlap {overlap:g}, %": share for overlap, share in zip(OVERLAPS, row.found, strict=True)}


def split(names: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Photos to learn from and photos held out: whole folders of the first level, or photos where there are none.

    Raises:
        ValueError: nothing is left to learn from.
    """
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    units = folders if len(set(folders)) > 1 else list(names)
    different = np.random.default_rng(seed).permutation(sorted(set(units)))
    aside = set(different[: math.ceil(share * len(different))].tolist())
    learned = [name for name, unit in zip(names, units, strict=True) if unit not in aside]
    if not learned:
        raise ValueError(f"{len(names)} photos have boxes, and --held-out {share} leaves none of them to learn from")
    return learned, [name for name, unit in zip(names, units, strict=True) if unit in aside]


def _check(**options: Any) -> None:
    for name in ("proposals", "epochs", "batch", "size"):
        if options[name] < 1:
            raise ValueError(f"--{name} {options[name]}: it is 1 or more")
    if options["proposals"] > MOST_PROPOSALS:
        raise ValueError(f"--proposals {options['proposals']}: at most {MOST_PROPOSALS}, which are compared in pairs")
    if not 0 < options["lr"] < float("inf") or not 0 <= options["held_out"] < 1 or options["seed"] < 0:
        raise ValueError(
            f"--lr is above 0, --held-out in 0..1 and --seed 0 or more, not {options['lr']}, {options['held_out']} and "
            f"{options['seed']}"
        )
    _sides(options["anchors"])


def _sides(anchors: str) -> list[float]:
    try:
        sides = [float(side) for side in anchors.split(",")]
    except ValueError:
        sides = []
    if not sides or not all(0 < side < float("inf") for side in sides):
        raise ValueError(f"--anchors {anchors}: give sides in cells with commas between, such as 8,16,32")
    return sides


def _learner(network: Any, proposals: int, anchors: list[float], trunk: bool, seed: int) -> Any:
    """The network with new proposals, or those that it has if they are of this form, as a model of proposals."""
    import keras

    from keras_retrieval.layers import RegionProposals
    from keras_retrieval.networks.proposal_model import ProposalModel
    from keras_retrieval.networks.regional import regional_layer, with_proposals

    keras.utils.set_random_seed(seed)
    new = RegionProposals(proposals, anchors, candidates=max(1000, proposals), name="proposals", dtype="float32")
    old = regional_layer(network).proposals
    same = old is not None and old.get_config() == new.get_config()
    return ProposalModel(network if same else with_proposals(network, new), trunk)


def _shares(boxes: Mapping[str, np.ndarray], full: Reading) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Boxes as shares of the photos' sides, and why photos were left out.

    Raises:
        BoxesError: a box reaches out of its photo.
        ValueError: none of the photos can be read.
    """
    shares, left_out = {}, {}
    for name, rows in boxes.items():
        try:
            height, width = full.shape(name)
        except PhotoError as error:
            left_out[name] = error.reason
            continue
        sides = np.array([width, height, width, height])
        if ((rows < -1) | (rows > sides + 1)).any():
            raise BoxesError(f"a box of {name} reaches out of the photo, which is {width} x {height}: {rows.tolist()}")
        shares[name] = np.clip(rows / sides, 0, 1)
    if not any(map(len, shares.values())):
        name, reason = next(iter(left_out.items()), ("none", "there is no box"))
        raise ValueError(f"none of the {len(boxes)} photos with boxes can be read from {full.folder}: {name}: {reason}")
    return shares, left_out


def _fit(learner: Any, data: ProposalPhotos, checkpoint: Checkpoint, run: Path, epochs: int, lr: float) -> None:
    """Trains the epochs that are left, and keeps each."""
    import keras

    from keras_retrieval.losses import ProposalLoss

    rate = keras.optimizers.schedules.CosineDecay(lr, data.steps * epochs)
    learner.compile(keras.optimizers.Adam(rate), ProposalLoss())
    learner.optimizer.build(learner.trainable_variables)
    if checkpoint.begun:
        restore(checkpoint, learner.network.weights, learner.optimizer.variables)
        print(f"going on after epoch {checkpoint.epochs}")

    def begin(epoch: int, logs: Any = None) -> None:
        data.epoch = epoch

    def end(epoch: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]):
            raise TrainingError(f"the loss of epoch {epoch + 1} is not finite: a lower --lr may help")
        checkpoint.weights = [keras.ops.convert_to_numpy(weight) for weight in learner.network.weights]
        checkpoint.optimizer = [keras.ops.convert_to_numpy(variable) for variable in learner.optimizer.variables]
        checkpoint.history.append({"epoch": epoch + 1, "loss": float(logs["loss"])})
        write_checkpoint(run, checkpoint)
        write_history(run, checkpoint)

    if checkpoint.epochs < epochs:
        learner.fit(
            data.dataset(), epochs=epochs, initial_epoch=checkpoint.epochs, shuffle=False,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)],
            verbose=1 if sys.stderr.isatty() else 2,
        )  # fmt: skip
