"""From unordered photos to 3D models of what they show: `keras-retrieval reconstruct PHOTOS WORK`.

No labels, no order: candidate pairs come from retrieval, COLMAP matches and verifies them, groups of verified pairs
are mapped, and the models become clusters. As the SfM of Radenovic et al. ECCV 2016 and Schonberger et al. CVPR
2015, with descriptors of a network in place of a bag of words.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files.components import connected
from ..files.durable import read_json, write_file
from ..files.progress import progress
from ..photos.reader import list_photos
from .clusters import LEAST_INLIERS
from .colmap import Database, Pair, check_seed, load_colmap
from .descriptors import describe, made_with
from .mapping import MAPPERS, Model, forget_others, map_group
from .matching import PAIRS, Pairing, match_in_rounds
from .page import page
from .photos import begin, prepare
from .report import Report, make_report, summary

DATABASE, REPORT, PAGE = "database.db", "report.json", "index.html"


def reconstruct(
    photos: Annotated[Path, typer.Argument(help="Folder of photos of any objects; names of folders do not matter.")],
    work: Annotated[Path, typer.Argument(help="Folder for the database, the models and the report.")],
    *,
    model: Annotated[str, typer.Option(help="Network that finds candidates: a .keras file or a name.")] = "vgg16_gem",
    descriptor_size: Annotated[int, typer.Option(help="Longest side in pixels of the photos it sees.")] = 320,
    pairs: Annotated[str, typer.Option(help="Candidates: retrieval, vocabulary-tree or exhaustive.")] = "retrieval",
    neighbours: Annotated[int, typer.Option(help="Photos each photo chooses first, mutual choices preferred.")] = 8,
    vocabulary: Annotated[Path | None, typer.Option(help="COLMAP's vocabulary tree; else made of the photos.")] = None,
    features: Annotated[int, typer.Option(help="SIFT features of a photo at most.")] = 8192,
    size: Annotated[int, typer.Option(help="Longest side in pixels at which features are looked for.")] = 1600,
    min_inliers: Annotated[int, typer.Option(help="Matches of one geometry that verify a pair, 15 or more.")] = 15,
    mapper: Annotated[str, typer.Option(help="COLMAP's mapper: incremental or global.")] = "incremental",
    min_photos: Annotated[int, typer.Option(help="Models of fewer photos are dropped.")] = 5,
    seed: Annotated[int, typer.Option(help="Of COLMAP's random samples.")] = 0,
) -> Path:
    """Reconstructs what unordered photos show.

    WORK gets database.db, images (the photos as COLMAP sees them: links, or upright copies), models/*/N (COLMAP models
    of these images), report.json and index.html. A second run redoes nothing; a killed one goes on where it was;
    photos that were added cost their own pairs and the groups they join.

    Returns:
        WORK.

    Raises:
        ValueError: an option is out of range, WORK was begun otherwise, a photo has changed, or none can be read.
        FileNotFoundError: there is no such vocabulary tree.
        ImportError: COLMAP is not installed.
    """
    counts = {"neighbours": neighbours, "min_photos": min_photos, "features": features, "size": size}
    _check(pairs, mapper, vocabulary, min_inliers, counts | {"descriptor_size": descriptor_size})
    check_seed(seed)
    load_colmap()
    names = list_photos(photos)
    extraction = {"features": features, "size": size}
    begin(work, photos, extraction)
    database, seconds = Database(work / DATABASE), _seconds_so_far(work / REPORT)
    with _timed(seconds, "photos"):
        left_out = prepare(photos, names, work)
    if pairs == "retrieval":
        with _timed(seconds, "descriptors"):
            describe(photos, _others(names, left_out), work, model, descriptor_size)
    with _timed(seconds, "features"):
        left_out |= database.extract_features(work / "images", _others(names, left_out), extraction)
    usable = _others(names, left_out)
    pairing = Pairing(pairs, neighbours, min_inliers, vocabulary, made_with(model, descriptor_size), seed)
    with _timed(seconds, "pairs"):
        rounds = match_in_rounds(
            database, usable, pairing, lambda: describe(photos, usable, work, model, descriptor_size)
        )
    mapping = {"mapper": mapper, "min_photos": min_photos, "min_inliers": min_inliers, "seed": seed}
    with _timed(seconds, "models"):
        models = _map(work, usable, database, mapping)
    choice = {"model": model, "descriptor_size": descriptor_size, "pairs": pairs, "neighbours": neighbours}
    report = make_report(work, names, left_out, database.inliers(), models, choice | extraction | mapping)
    _write(work, report | {"photos": str(photos.resolve()), "rounds": rounds, "seconds": seconds})
    forget_others(work, models)
    return work


def _check(pairs: str, mapper: str, vocabulary: Path | None, min_inliers: int, counts: Mapping[str, int]) -> None:
    for option, value, known in (("pairs", pairs, PAIRS), ("mapper", mapper, MAPPERS)):
        if value not in known:
            raise ValueError(f"--{option} {value}: known are {', '.join(known)}")
    for option, count in counts.items():
        if count < 1:
            raise ValueError(f"--{option.replace('_', '-')} is at least 1, not {count}")
    if min_inliers < LEAST_INLIERS:
        raise ValueError(f"--min-inliers is at least {LEAST_INLIERS}, COLMAP's own bound, not {min_inliers}")
    if vocabulary and not vocabulary.is_file():
        raise FileNotFoundError(f"there is no vocabulary tree at {vocabulary}")


def _others(names: Sequence[str], left_out: Mapping[str, str]) -> list[str]:
    """The photos that are not left out; at least one."""
    others = [name for name in names if name not in left_out]
    if not others:
        name, reason = next(iter(left_out.items()))
        raise ValueError(f"none of the {len(names)} photos can be used; the first: {name}: {reason}")
    return others


def _map(work: Path, names: Sequence[str], database: Database, options: dict[str, Any]) -> list[Model]:
    known = set(names)
    verified = {
        pair: count
        for pair, count in database.inliers().items()
        if count >= options["min_inliers"] and known.issuperset(pair)
    }
    groups = [group for group in connected(names, verified) if len(group) >= options["min_photos"]]
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    inside: list[dict[Pair, int]] = [{} for _ in groups]
    for pair, count in verified.items():
        if pair[0] in group_of:
            inside[group_of[pair[0]]][pair] = count
    models: list[Model] = []
    with progress("models", sum(map(len, groups))) as advance:
        for group, own in zip(groups, inside, strict=True):
            models += map_group(work, group, own, options, advance)
    return models


def _write(work: Path, report: Report) -> None:
    write_file(work / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_file(work / PAGE, page(report, work))
    print(summary(report))
    print(f"page: {(work / PAGE).resolve()}")


def _seconds_so_far(report: Path) -> dict[str, float]:
    """What each stage took in the runs that wrote a report."""
    return read_json(report)["seconds"] if report.exists() else {}


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage] = round(seconds.get(stage, 0) + time.monotonic() - started, 1)
