"""From a group of photos with verified pairs to COLMAP models: cameras and points."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.durable import FolderError, fingerprint, partial_of, read_manifest, seal
from .colmap import Pair, colmap_name, load_colmap, photo_name

KIND, VERSION = "COLMAP models", 1
MAPPERS = ("incremental", "global")


@dataclass(frozen=True)
class Model:
    """One COLMAP model.

    Attributes:
        folder: with cameras.bin, frames.bin, images.bin, points3D.bin, rigs.bin.
        photos: the names of the registered photos, sorted.
        points: how many 3D points.
        observations: how often photos see them.
        error: the mean reprojection error in pixels.
    """

    folder: Path
    photos: list[str]
    points: int
    observations: int
    error: float


def map_group(
    work: Path, group: Sequence[str], inliers: Mapping[Pair, int], options: Mapping[str, Any], advance: Callable
) -> list[Model]:
    """Maps a group, or finds it done.

    Args:
        work: with database.db and images; the models go to a folder in `work`/models that is named by a checksum of
            all that they depend on.
        group: the names of its photos.
        inliers: the matches of the verified pairs in it.
        options: mapper, "incremental" or "global"; min_photos; min_inliers; seed.
        advance: called with the number of photos done; in sum that of the group.

    Returns:
        Its models, the one of most photos first; none if the mapper finds no start.
    """
    edges = sorted([*pair, count] for pair, count in inliers.items())
    folder = work / "models" / fingerprint(list(group), edges, dict(options), VERSION)
    if not folder.exists():
        _map(work, folder, group, options, _at_most(advance, len(group)))
    else:
        advance(len(group))
    return read_group(folder)


def read_group(folder: Path) -> list[Model]:
    """Reads what `map_group` remembered of a group's models."""
    manifest = read_manifest(folder, kind=KIND, version=VERSION)
    return [Model(**{**model, "folder": folder / model["folder"]}) for model in manifest["models"]]


def forget_others(work: Path, used: Sequence[Model]) -> None:
    """Removes folders of models that earlier runs made of groups which have changed since, or left unfinished."""
    wanted = {model.folder.parent for model in used}
    for folder in sorted((work / "models").glob("*")):
        if folder not in wanted and _is_ours(folder):
            shutil.rmtree(folder)


def _is_ours(folder: Path) -> bool:
    if folder.suffix == ".partial":
        return True
    try:
        return bool(read_manifest(folder, kind=KIND, version=VERSION))
    except FolderError:
        return False


def _map(work: Path, folder: Path, group: Sequence[str], options: Mapping[str, Any], advance: Callable) -> None:
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    mapper = _incremental if options["mapper"] == "incremental" else _global
    found = mapper(work, partial, group, options, advance)
    models = []
    for number, model in sorted(found.items(), key=lambda item: (-item[1].num_reg_images(), item[0])):
        if model.num_reg_images() >= options["min_photos"]:
            models.append(_facts(number, model))
        else:
            shutil.rmtree(partial / str(number), ignore_errors=True)
    advance(len(group))
    seal(partial, folder, kind=KIND, version=VERSION, photos=list(group), options=dict(options), models=models)


def _facts(number: int, model: Any) -> dict[str, Any]:
    return {
        "folder": str(number),
        "photos": sorted(photo_name(model.images[image].name) for image in model.reg_image_ids()),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "error": round(model.compute_mean_reprojection_error(), 4),
    }


def _incremental(
    work: Path, output: Path, group: Sequence[str], options: Mapping[str, Any], advance: Callable
) -> dict[int, Any]:
    colmap = load_colmap()
    pipeline = colmap.IncrementalPipelineOptions(
        image_names=[colmap_name(name) for name in group],
        min_model_size=options["min_photos"],
        min_num_matches=options["min_inliers"],
        ignore_watermarks=True,
        random_seed=options["seed"],
    )
    return colmap.incremental_mapping(
        work / "database.db",
        work / "images",
        output,
        pipeline,
        initial_image_pair_callback=lambda: advance(2),
        next_image_callback=lambda: advance(1),
    )


def _global(
    work: Path, output: Path, group: Sequence[str], options: Mapping[str, Any], advance: Callable
) -> dict[int, Any]:
    colmap = load_colmap()
    pipeline = colmap.GlobalPipelineOptions(
        image_names=[colmap_name(name) for name in group],
        min_model_size=options["min_photos"],
        min_num_matches=options["min_inliers"],
        ignore_watermarks=True,
        random_seed=options["seed"],
    )
    return colmap.global_mapping(work / "database.db", work / "images", output, pipeline)


def _at_most(advance: Callable, total: int) -> Callable:
    """Passes on no more than `total`, since a mapper may begin several models of one group."""
    left = total

    def capped(count: int) -> None:
        nonlocal left
        count = min(count, left)
        left -= count
        if count:
            advance(count)

    return capped
