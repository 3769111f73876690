"""Interpolates the weights of a trained network with those before training.

A network that is fine-tuned on few objects becomes better at these and may become worse at others. Between the weights
before and after training lie networks that keep more of what the pretrained network could do (Wortsman et al.: Robust
fine-tuning of zero-shot models. CVPR 2022). Which of them is best is measured on photos that are set aside.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..training_tuples.data import validation_mask
from .interpolation_share import AUTO, SHARES
from .network import load_trainable, set_p_speed
from .photo_descriptors import PhotoDescriptors
from .run import Run
from .validation_scores import draw_photos, score_rows

log = logging.getLogger("keras_retrieval")


def interpolate(run: Run) -> dict[str, Any]:
    """Sets the weights of the run's network to a mean of those before training and of those that it has now.

    With the share a of the trained weights, the weights are (1 - a) w0 + a w. With --interpolate auto, a is the share
    with the highest mAP for the photos that are set aside, in a search among all photos of the tuples, which are
    described at --size. Of equal shares the greatest is taken.

    Args:
        run: the run, whose network has the weights of the best epoch.

    Returns:
        A dict with "share" and, if shares were compared, "mAP", the mAP of each of `SHARES` from 0 to 1.
    """
    given = run.options.interpolate
    aside = bool(validation_mask(run.tuples).any())
    if given == "1" or (given == AUTO and not aside):
        return {"share": 1.0}
    trained = [np.array(weight) for weight in run.network.weights]
    pretrained = load_trainable(run.pretrained)
    set_p_speed(pretrained, run.options.p_speed)
    before = [np.array(weight) for weight in pretrained.weights]
    if given != AUTO:
        _mix(run, before, trained, float(given))
        return {"share": float(given)}
    scores: list[float | None] = []
    for share in SHARES:
        _mix(run, before, trained, share)
        scores.append(score_set_aside(run))
    known = [(score, share) for score, share in zip(scores, SHARES, strict=True) if score is not None]
    share = run.devices.workers.agree(max(known)[1] if known else 1.0)
    _mix(run, before, trained, share)
    log.info(
        "share of the trained weights: %g, of mAP %s at the shares %s",
        share,
        ", ".join("-" if score is None else f"{100 * score:.1f}" for score in scores),
        ", ".join(f"{one:g}" for one in SHARES),
    )
    return {"share": share, "mAP": scores}


def _mix(run: Run, before: Sequence[np.ndarray], trained: Sequence[np.ndarray], share: float) -> None:
    for weight, old, new in zip(run.network.weights, before, trained, strict=True):
        weight.assign(new if share == 1 else (1 - share) * old + share * new)


def score_set_aside(run: Run) -> float | None:
    """Computes the mAP of the run's network in its current state for the photos that are set aside.

    Returns:
        The mAP, from 0 to 1; None if no photo that is set aside has a relevant photo.
    """
    rng = np.random.default_rng(run.options.seed)
    drawn = draw_photos(run.tuples, np.arange(len(run.tuples.images)), rng)
    descriptors = PhotoDescriptors(run.photos, run.tuples.images, run.devices.workers)
    descriptors.describe(run.describe, drawn)
    drawn = drawn[descriptors.has(drawn)]
    found = score_rows(run.tuples, drawn, descriptors.of(drawn), rng) if len(drawn) else None
    return None if found is None else found.mean_ap
