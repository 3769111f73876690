"""Writes the trained networks of a run, and scores them and the network before training."""

import json
from typing import Any

from keras_retrieval.whitening.covariance import Projection
from keras_retrieval.whitening.gram_pca import WIDE

from ..files.durable import fingerprint, write_file
from ..networks.files import model_identity, save_model
from .evaluation import Mean
from .network import save_trained
from .run import Run
from .whitening import WhiteningPhotos, describe_for_whitening

TRAINED = "trained.keras"
LABELS = {"lw": "Lw", "pca": "PCA"}


def score_pretrained(run: Run) -> dict[str, Mean]:
    """Scores the network before training, on the collection of a run, for comparison with the trained network.

    The network is scored without whitening and, unless `options.whiten` is "none", with PCA whitening and with Lw, the
    whitening that is learned from matching pairs. Lw is left out if its matrices would not fit in memory. The
    scores are stored in pretrained.json in the folder of the run, from which a resumed run reads them.

    Returns:
        A dict from a label ("pretrained", "pretrained + PCA", "pretrained + Lw") to the mean scores; empty if the run
        has no collection.
    """
    options, scorer = run.options, run.scorer
    if scorer is None:
        return {}
    path = run.output / "pretrained.json"
    made_from = fingerprint(
        model_identity(run.pretrained), str(options.dataset), str(options.dataset_photos), str(options.gnd),
        options.whiten, options.dim, options.shrinkage, options.shift, options.test_size, options.scales,
        options.precision,
    )  # fmt: skip
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["made_from"] == made_from:
            return kept["scores"]
    collection = scorer.describe(run.pretrained, "pretrained")
    scores = {"pretrained": scorer.score(collection)}
    if options.whiten != "none":
        photos = describe_for_whitening(run.pretrained, run.tuples, options, run.output / "descriptors")
        for method in ("pca", "lw") if run.network.output_shape[-1] <= WIDE else ("pca",):
            whitening = photos.learn(method, options)
            scores[f"pretrained + {LABELS[method]}"] = scorer.score(collection, whitening, options.dim)
    write_file(path, json.dumps({"made_from": made_from, "scores": scores}))
    return scores


def finish(run: Run) -> tuple[dict[str, Mean], dict[str, Any]]:
    """Saves the trained network, learns a whitening, and scores the network without and with this whitening.

    The files trained.keras (without the whitening) and model.keras (with the whitening inside) are written to the
    folder of the run.

    Returns:
        A dict from a label ("trained", "trained + Lw" or "trained + PCA") to the mean scores, empty if the run has no
        collection; and a dict of the metadata of the whitening, with "method", "dim" and, for Lw, "shrinkage". If no
        whitening is learned, the dict contains only "method", with the value "none".

    Raises:
        OSError: a file cannot be written.
        WhiteningError: no photo has a descriptor, or the descriptors have too many dimensions for the whitening.
        ValueError: too few photos or pairs can be read to learn the whitening.
    """
    trained, model = run.output / TRAINED, run.output / "model.keras"
    save_trained(run.network, trained)
    run.devices.workers.wait()
    whitening, facts = _whitening(run, str(trained))
    from keras_retrieval.networks.regional import with_whitening

    final = run.network if whitening is None else with_whitening(run.network, whitening.m, whitening.P, run.options.dim)
    save_model(final, model)
    if run.scorer is None:
        return {}, facts
    collection = run.scorer.describe(str(trained), "trained")
    scores = {"trained": run.scorer.score(collection)}
    if whitening is not None:
        label = f"trained + {LABELS[run.options.whiten]}"
        scores[label] = run.scorer.score(collection, whitening, run.options.dim)
    return scores, facts


def help_to_finish(run: Run) -> None:
    """Describes this process' share of the photos for the whitening, while another process calls `finish`."""
    run.devices.workers.wait()
    if run.options.whiten != "none":
        _photos_of_whitening(run, str(run.output / TRAINED))


def _photos_of_whitening(run: Run, trained: str) -> WhiteningPhotos:
    return describe_for_whitening(trained, run.tuples, run.options, run.output / "descriptors", run.devices.workers)


def _whitening(run: Run, trained: str) -> tuple[Projection | None, dict[str, Any]]:
    options = run.options
    if options.whiten == "none":
        return None, {"method": "none"}
    learned = _photos_of_whitening(run, trained).learn(options.whiten, options)
    facts: dict[str, Any] = {"method": options.whiten, "dim": options.dim or len(learned.P)}
    if options.whiten == "lw":
        facts["shrinkage"] = learned.shrinkage
    return learned, facts
