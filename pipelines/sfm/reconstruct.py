"""The command `keras-retrieval reconstruct PHOTOS WORK`, which reconstructs 3D models from unordered photos.

The photos need neither labels nor an order. Retrieval proposes candidate pairs of photos. COLMAP matches and verifies
the pairs, and reconstructs models from each group of photos that verified pairs connect. Models that share photos form
a cluster. The method follows Radenovic et al. (ECCV 2016) and Schonberger et al. (CVPR 2015), with the descriptors of a
network instead of a bag of visual words.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..command.options import takes
from ..files.components import connected
from ..files.durable import read_json, write_file
from ..files.name_join import some_of
from ..files.remote import place_text
from ..files.shards import LEFT_OUT, write_left_out
from .brought_matches import BroughtDatabase, BroughtMatches
from .colmap import Database, Pair, load_colmap
from .descriptors import compute_descriptors
from .errors import ReconstructionError
from .feature_kinds import extraction_settings, open_database, settings_to_store
from .mapping import Group, Model, map_groups, remove_other_models
from .matching import match_brought, match_in_rounds
from .near_photos import read_nearness
from .on_workers import extract_features, match
from .options import ReconstructOptions
from .page import page
from .photos import prepare
from .report import Report, make_report, summary
from .work_folder import open_work

DATABASE, REPORT, PAGE = "database.db", "report.json", "index.html"


@takes(ReconstructOptions)
def reconstruct(options: ReconstructOptions) -> Path:
    """Reconstructs the objects in unordered photos as 3D models, by structure from motion with COLMAP.

    WORK then contains database.db (COLMAP's features and matches), images (links to the photos, or copies where
    COLMAP needs them: upright ones, and those of photos at an address), models/*/N (COLMAP models of these images),
    report.json and index.html. An interrupted run is continued. The stages of a finished run are not repeated. If
    photos were added since then, only pairs with a new photo are matched, and only the groups of photos that changed
    are reconstructed again.

    Returns:
        The folder `work`.

    Raises:
        ArgumentError: an option is out of range.
        PhotoFolderError: the folder of photos does not exist or contains no photo.
        FolderError: WORK was started with other options, is not empty although no run was started in it, or is inside
            the folder of photos.
        ReconstructionError: a photo has changed since an earlier run, no photo can be used, the database is damaged, or
            the one of --database is, has no photo of the folder or no matches, or has changed.
        PositionError, TableError, JoinError: with --near, the positions cannot be read, see `read_nearness`.
        LocalFeaturesError: the extractor of --features cannot be loaded.
        VocabularyNotFoundError: the vocabulary tree does not exist.
        EngineError: with --engine, the cluster cannot be reached, or work failed in every attempt.
        RemoteError: the storage of photos at an address does not answer, or refuses.
        MissingExtraError: COLMAP, or the package of --engine, is not installed.
    """
    photos, work, engine = options.photos, options.work, options.chosen_engine
    extraction = settings_to_store(options.resumed(), options.database)
    intake = options.take(photos)
    names = intake.photos
    print(intake.account, flush=True)
    nearness = read_nearness(options, photos, names)
    if nearness is not None:
        print(nearness.account, flush=True)
    brought = _brought(options.database, names)
    open_work(work, photos, extraction)
    load_colmap()

    def describe(some: Sequence[str]) -> np.ndarray:
        return compute_descriptors(
            photos,
            some,
            work,
            options.model,
            options.descriptor_size,
            accept_truncated=options.accept_truncated,
            runtime=options.runtime,
            engine=engine,
        )

    database = (
        open_database(work / DATABASE, extraction)
        if brought is None
        else BroughtDatabase(work / DATABASE, brought, photos)
    )
    seconds = _seconds_so_far(work / REPORT)
    with _timed(seconds, "photos"):
        left_out = prepare(photos, names, work, options.accept_truncated, intake.states)
    if options.pairs == "retrieval" and brought is None:
        with _timed(seconds, "descriptors"):
            describe(_others(names, left_out))
    with _timed(seconds, "features"):
        some = _others(names, left_out)
        if brought is None:
            left_out |= extract_features(database, work / "images", some, extraction, engine)
        else:
            left_out |= database.extract_features(work / "images", some, extraction_settings(extraction))
    usable = _others(names, left_out)
    with _timed(seconds, "pairs"):
        near = nearness and nearness.of(usable)
        if brought is None:
            rounds = match_in_rounds(
                database,
                usable,
                options,
                lambda: describe(usable),
                near,
                lambda pairs: match(database, pairs, extraction, options.seed, engine),
            )
        else:
            rounds = match_brought(database, brought.pairs_of(usable), options, near)
    with _timed(seconds, "models"):
        models = _map(usable, database, options)
    report = make_report(work, names, intake.left_out | left_out, database.inliers(), models, options)
    write_left_out(work / LEFT_OUT, intake.reasons | report["left_out"])
    _write(work, report | {"photos": place_text(photos), "rounds": rounds, "seconds": seconds})
    remove_other_models(work, models)
    return work


def _brought(path: Path | None, names: Sequence[str]) -> BroughtMatches | None:
    """Reads the database that the user brings, and prints which photos and images have no counterpart."""
    if path is None:
        return None
    brought = BroughtMatches(path)
    unknown = brought.choose(names)
    missing = [name for name in names if name not in brought]
    print(f"{path}: {len(names) - len(missing):,} of {len(names):,} photos, {len(brought.pairs):,} pairs with matches")
    if missing:
        print(f"photos that it does not have: {len(missing):,} ({some_of(missing)})")
    if unknown:
        print(f"its images that are no photo of the folder: {len(unknown):,} ({some_of(unknown)})")
    if not brought.pairs:
        raise ReconstructionError(
            f"{path} has no matches of two photos of the folder: match their features first, by hloc's match_features "
            "or COLMAP"
        )
    return brought


def _others(names: Sequence[str], left_out: Mapping[str, str]) -> list[str]:
    """Returns the names that are not left out; raises ReconstructionError if there are none."""
    others = [name for name in names if name not in left_out]
    if not others:
        name, reason = next(iter(left_out.items()))
        raise ReconstructionError(f"all {len(names)} photos are unusable; the first is {name}: {reason}")
    return others


def _map(names: Sequence[str], database: Database, options: ReconstructOptions) -> list[Model]:
    present = set(names)
    verified = {
        pair: count
        for pair, count in database.inliers().items()
        if count >= options.min_inliers and present.issuperset(pair)
    }
    groups = [group for group in connected(names, verified) if len(group) >= options.min_photos]
    group_of = {name: number for number, group in enumerate(groups) for name in group}
    inside: list[dict[Pair, int]] = [{} for _ in groups]
    for pair, count in verified.items():
        if pair[0] in group_of:
            inside[group_of[pair[0]]][pair] = count
    return map_groups(options.work, [Group(*group) for group in zip(groups, inside, strict=True)], options)


def _write(work: Path, report: Report) -> None:
    write_file(work / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_file(work / PAGE, page(report, work))
    print(summary(report))
    print(f"page: {(work / PAGE).resolve()}")


def _seconds_so_far(report: Path) -> dict[str, float]:
    """Reads the duration of each stage in seconds, summed over earlier runs, from report.json if it exists."""
    return read_json(report)["seconds"] if report.exists() else {}


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage] = round(seconds.get(stage, 0) + time.monotonic() - started, 1)
