"""The step `train-proposals`: `keras-retrieval train-proposals BOXES --photos PHOTOS --model X.keras --output RUN`.

Region proposals are image regions that the network itself predicts to contain objects. The step writes to the folder
RUN model.keras (the network with region proposals instead of R-MAC's grid), results.json (the recall, which is the
share of the objects' boxes in held-out photos that the proposals and the grid find), page.html (the recall and the
loss) and history.csv, as well as photos (the cache of resized photos) and checkpoint.npz, from which --resume
continues.
"""

import json
import math
import sys
from dataclasses import asdict
from typing import Any

from ..command.options import takes
from ..files.durable import write_file
from ..networks.files import save_model, smallest_side
from ..photos.cache import build_cache
from ..photos.object_boxes import read_boxes
from ..photos.reading import Reading
from .callbacks import write_history
from .checkpoint import Checkpoint, open_run, restore, write_checkpoint
from .errors import TrainingError
from .network import load_trainable
from .page import proposals_page
from .proposal_photos import ProposalPhotos, boxes_as_shares, hold_out
from .proposal_recall import OVERLAPS, Recall, recall_of_boxes, table
from .train_proposals_options import TrainProposalsOptions


@takes(TrainProposalsOptions)
def train_proposals(options: TrainProposalsOptions) -> dict[str, Any]:
    """Trains region proposals, so that the network pools regions that are likely to contain objects.

    The proposals replace the rigid grid of R-MAC. The method is that of Gordo et al. (ECCV 2016). Without --trunk only
    the proposals are trained.

    Returns:
        The content of results.json: numbers of photos, the recall of proposals and grids, and the options.

    Raises:
        ArgumentError: an option is out of range, the network does not pool regions, or no photo with boxes is left to
            train on or can be read.
        BoxesError: the boxes cannot be read, or a box extends beyond its photo.
        CheckpointError: `output` contains a run that cannot be resumed with these options.
        TrainingError: the loss is no longer finite.
        OSError: a file cannot be read or written.
    """
    boxes = read_boxes(options.boxes)
    names, held_out = hold_out(list(boxes), options.held_out, options.seed)
    checkpoint = open_run(options.output, options.fingerprint(boxes), options.resume)
    learner = _learner(load_trainable(options.model), options)
    reading = Reading(options.photos, options.size, smallest=smallest_side(learner.network))
    shares, unreadable = boxes_as_shares(boxes, Reading(options.photos, None))
    # The cache in RUN is built again if photos have changed; a cache that the user names is not.
    cache, replace = options.cache or options.output / "photos", options.cache is None
    photos = build_cache(
        cache, [name for name in names if name in shares], reading, replace=replace, engine=options.chosen_engine
    )
    side = max(options.size, reading.smallest)
    anchors, cells = learner.anchors(side)
    data = ProposalPhotos(photos.names, shares, photos, side, anchors, cells, options.batch, options.flip, options.seed)
    _fit(learner, data, checkpoint, options)
    network = learner.release()
    save_model(network, options.output / "model.keras")
    recall = recall_of_boxes(network, [name for name in held_out if name in shares], shares, reading)
    results = {
        "training_photos": len(photos.names),
        "held_out_photos": len(held_out),
        "recall": [asdict(row) for row in recall],
        "left_out": unreadable | photos.left_out | data.left_out,
        "options": options.facts(),
    }
    facts = f"{len(photos.names)} training photos, {len(held_out)} held out"
    page = proposals_page(
        f"Region proposals of {network.name}",
        [facts],
        checkpoint.history,
        {f"{row.regions}, {row.count:.0f} a photo": _recall_by_overlap(row) for row in recall},
    )
    write_file(options.output / "results.json", json.dumps(results, indent=1, ensure_ascii=False))
    write_file(options.output / "page.html", page)
    print(f"{options.output / 'model.keras'}: {network.name}, {facts}")
    if recall:
        print(table(recall))
    elif held_out:
        print("no recall: no box in the held-out photos can be read")
    print(f"page: {(options.output / 'page.html').resolve()}")
    return results


def _recall_by_overlap(row: Recall) -> dict[str, float | None]:
    return {f"boxes at overlap {overlap:g}, %": share for overlap, share in zip(OVERLAPS, row.found, strict=True)}


def _learner(network: Any, options: TrainProposalsOptions) -> Any:
    """Returns a ProposalModel of the network, with new proposals unless it already has some with the same settings."""
    import keras

    from keras_retrieval.layers import RegionProposals
    from keras_retrieval.networks.proposal_model import ProposalModel
    from keras_retrieval.networks.regional import regional_layer, with_proposals

    keras.utils.set_random_seed(options.seed)
    new = RegionProposals(
        options.proposals, options.sides(), candidates=max(1000, options.proposals), name="proposals", dtype="float32"
    )
    old = regional_layer(network).proposals
    same = old is not None and old.get_config() == new.get_config()
    return ProposalModel(network if same else with_proposals(network, new), options.trunk)


def _fit(learner: Any, data: ProposalPhotos, checkpoint: Checkpoint, options: TrainProposalsOptions) -> None:
    """Trains the remaining epochs, and writes a checkpoint after each of them."""
    import keras

    from keras_retrieval.losses import ProposalLoss

    rate = keras.optimizers.schedules.CosineDecay(options.lr, data.steps * options.epochs)
    learner.compile(keras.optimizers.Adam(rate), ProposalLoss())
    learner.optimizer.build(learner.trainable_variables)
    if checkpoint.started:
        restore(checkpoint, learner.network.weights, learner.optimizer.variables)
        print(f"resuming after epoch {checkpoint.epochs}")

    def begin(epoch: int, logs: Any = None) -> None:
        data.epoch = epoch

    def end(epoch: int, logs: dict[str, Any]) -> None:
        if not math.isfinite(logs["loss"]):
            raise TrainingError(f"the loss of epoch {epoch + 1} is {logs['loss']}: lower --lr")
        checkpoint.weights = [keras.ops.convert_to_numpy(weight) for weight in learner.network.weights]
        checkpoint.optimizer = [keras.ops.convert_to_numpy(variable) for variable in learner.optimizer.variables]
        checkpoint.history.append({"epoch": epoch + 1, "loss": float(logs["loss"])})
        write_checkpoint(options.output, checkpoint)
        write_history(options.output, checkpoint)

    if checkpoint.epochs < options.epochs:
        learner.fit(
            data.dataset(), epochs=options.epochs, initial_epoch=checkpoint.epochs, shuffle=False,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)],
            verbose=1 if sys.stderr.isatty() else 2,
        )  # fmt: skip
