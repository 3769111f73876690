"""Mapping: reconstructs COLMAP models (cameras and 3D points) from a group of photos with verified pairs."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.durable import FolderError, fingerprint, partial_of, read_manifest, seal
from .colmap import Pair, colmap_name, load_colmap, photo_name
from .options import ReconstructOptions

KIND, VERSION = "COLMAP models", 1


@dataclass(frozen=True)
class Model:
    """A COLMAP model.

    Attributes:
        folder: the folder with cameras.bin, frames.bin, images.bin, points3D.bin and rigs.bin.
        photos: names of the registered photos, sorted.
        points: number of 3D points.
        observations: number of observations of the 3D points in the photos.
        error: mean reprojection error in pixels.
    """

    folder: Path
    photos: list[str]
    points: int
    observations: int
    error: float


def map_group(
    work: Path, group: Sequence[str], inliers: Mapping[Pair, int], options: ReconstructOptions, advance: Callable
) -> list[Model]:
    """Reconstructs models of a group of photos, unless they exist already.

    Args:
        work: folder with database.db and images. The models are written to a sub-folder of `work`/models, which is
            named by a fingerprint of everything that they depend on.
        group: names of the group's photos.
        inliers: the number of inlier matches of each verified pair in the group.
        options: the options; `mapper`, `min_photos`, `min_inliers` and `seed` are used.
        advance: progress callback, called with the number of photos done since the last call; the numbers add up to
            the size of the group.

    Returns:
        The models, the one with the most photos first; an empty list if the mapper finds no initial pair.
    """
    edges = sorted([*pair, count] for pair, count in inliers.items())
    folder = work / "models" / fingerprint(list(group), edges, _settings(options), VERSION)
    if not folder.exists():
        _map(work, folder, group, options, _at_most(advance, len(group)))
    else:
        advance(len(group))
    return read_group(folder)


def read_group(folder: Path) -> list[Model]:
    """Reads the models that `map_group` wrote to a folder.

    Raises:
        FolderError: the folder is damaged or of a newer version.
    """
    manifest = read_manifest(folder, kind=KIND, version=VERSION)
    return [Model(**{**model, "folder": folder / model["folder"]}) for model in manifest["models"]]


def remove_other_models(work: Path, used: Sequence[Model]) -> None:
    """Removes the models in `work` that are not in `used`: unfinished models, and those of groups that have changed."""
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


def _settings(options: ReconstructOptions) -> dict[str, Any]:
    """The options that the models depend on."""
    return {
        "mapper": options.mapper,
        "min_photos": options.min_photos,
        "min_inliers": options.min_inliers,
        "seed": options.seed,
    }


def _map(work: Path, folder: Path, group: Sequence[str], options: ReconstructOptions, advance: Callable) -> None:
    partial = partial_of(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    mapper = _incremental if options.mapper == "incremental" else _global
    found = mapper(work, partial, group, options, advance)
    models = []
    for number, model in sorted(found.items(), key=lambda item: (-item[1].num_reg_images(), item[0])):
        if model.num_reg_images() >= options.min_photos:
            models.append(_facts(number, model))
        else:
            shutil.rmtree(partial / str(number), ignore_errors=True)
    advance(len(group))
    seal(partial, folder, kind=KIND, version=VERSION, photos=list(group), options=_settings(options), models=models)


def _facts(number: int, model: Any) -> dict[str, Any]:
    return {
        "folder": str(number),
        "photos": sorted(photo_name(model.images[image].name) for image in model.reg_image_ids()),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "error": round(model.compute_mean_reprojection_error(), 4),
    }


def _incremental(
    work: Path, output: Path, group: Sequence[str], options: ReconstructOptions, advance: Callable
) -> dict[int, Any]:
    colmap = load_colmap()
    pipeline = colmap.IncrementalPipelineOptions(
        image_names=[colmap_name(name) for name in group],
        min_model_size=options.min_photos,
        min_num_matches=options.min_inliers,
        ignore_watermarks=True,
        random_seed=options.seed,
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
    work: Path, output: Path, group: Sequence[str], options: ReconstructOptions, advance: Callable
) -> dict[int, Any]:
    colmap = load_colmap()
    pipeline = colmap.GlobalPipelineOptions(
        image_names=[colmap_name(name) for name in group],
        min_model_size=options.min_photos,
        min_num_matches=options.min_inliers,
        ignore_watermarks=True,
        random_seed=options.seed,
    )
    return colmap.global_mapping(work / "database.db", work / "images", output, pipeline)


def _at_most(advance: Callable, total: int) -> Callable:
    """Limits the sum that is passed on to `total`: a mapper may register a photo in several models of a group."""
    left = total

    def capped(count: int) -> None:
        nonlocal left
        count = min(count, left)
        left -= count
        if count:
            advance(count)

    return capped
