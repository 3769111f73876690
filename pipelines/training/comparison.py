"""The networks that a run writes, and their scores compared with those of the initial network."""

import json
from typing import Any

from keras_retrieval.whitening.covariance import Projection
from keras_retrieval.whitening.gram_pca import WIDE

from ..files.durable import fingerprint, write_file
from ..networks.files import model_identity, save_model
from .evaluation import Mean
from .network import save_trained
from .run import Run
from .whitening import describe_for_whitening

LABELS = {"lw": "Lw", "pca": "PCA"}


def score_pretrained(run: Run) -> dict[str, Mean]:
    """Scores the initial network of a run without whitening, with PCA whitening and with Lw.

    The scores are stored in RUN/pretrained.json, from which a resumed run reads them.

    Returns:
        A dict from the name of each network to its scores; empty if the run has no collection.
    """
    options, scorer = run.options, run.scorer
    if scorer is None:
        return {}
    path = run.output / "pretrained.json"
    made_from = fingerprint(
        model_identity(run.pretrained), str(options.dataset), str(options.dataset_photos), str(options.gnd),
        options.whiten, options.dim, options.shrinkage, options.test_size, options.scales, options.precision,
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
    """Writes trained.keras, and model.keras with the whitening inside, and scores both.

    Returns:
        A dict from the name of each network to its scores, empty if the run has no collection; and a JSON-able dict
        of metadata of the whitening.
    """
    trained, model = run.output / "trained.keras", run.output / "model.keras"
    save_trained(run.network, trained)
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


def _whitening(run: Run, trained: str) -> tuple[Projection | None, dict[str, Any]]:
    options = run.options
    if options.whiten == "none":
        return None, {"method": "none"}
    photos = describe_for_whitening(trained, run.tuples, options, run.output / "descriptors")
    learned = photos.learn(options.whiten, options)
    facts: dict[str, Any] = {"method": options.whiten, "dim": options.dim or len(learned.P)}
    if options.whiten == "lw":
        facts["shrinkage"] = photos.shrinkage(options)
    return learned, facts
