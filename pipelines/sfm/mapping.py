"""Reconstructs COLMAP models, which consist of cameras and 3D points, from a group of photos with verified pairs."""

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
    """A COLMAP model on the disk.

    Attributes:
        folder: the folder with cameras.bin, frames.bin, images.bin, points3D.bin and rigs.bin.
        photos: the names of the registered photos, which are those with a known camera pose, sorted.
        points: the number of 3D points.
        observations: the number of local features in the photos that are observations of a 3D point.
        error: the mean reprojection error in pixels.
    """

    folder: Path
    photos: list[str]
    points: int
    observations: int
    error: float


def map_group(
    work: Path, group: Sequence[str], inliers: Mapping[Pair, int], options: ReconstructOptions, advance: Callable
) -> list[Model]:
    """Reconstructs models of a group of photos, unless an earlier run has already written them.

    Args:
        work: the folder of the reconstruction with database.db and images. The models are written to a sub-folder of
            `work`/models, whose name is a hash of the group, its verified pairs and the options.
        group: the names of the photos in the group, a connected component of the graph of verified pairs.
        inliers: maps each verified pair in the group to the number of inliers (matches consistent with one geometry).
        options: the options of the reconstruction, of which `mapper`, `min_photos`, `min_inliers` and `seed` are used.
        advance: a function that is called with the number of photos processed since its last call, to show progress.
            The numbers add up to the size of the group.

    Returns:
        The models with at least `min_photos` photos, the model with the most photos first. The list is empty if no such
        model can be reconstructed.
    """
    edges = sorted([*pair, count] for pair, count in inliers.items())
    folder = work / "models" / fingerprint(list(group), edges, _settings(options), VERSION)
    if not folder.exists():
        _map(work, folder, group, options, _at_most(advance, len(group)))
    else:
        advance(len(group))
    return read_group(folder)


def read_group(folder: Path) -> list[Model]:
    """Reads the list of the models that `map_group` wrote to a folder.

    Args:
        folder: the group's sub-folder of models.

    Raises:
        FolderError: the folder is damaged, or was written by a newer version.
    """
    manifest = read_manifest(folder, kind=KIND, version=VERSION)
    return [Model(**{**model, "folder": folder / model["folder"]}) for model in manifest["models"]]


def remove_other_models(work: Path, used: Sequence[Model]) -> None:
    """Deletes models of earlier runs that are not needed any more, such as unfinished models and those of other groups.

    Args:
        work: the folder of the reconstruction, whose sub-folder "models" is cleaned.
        used: the models to keep. All models in the sub-folders of other groups are deleted.
    """
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
    """Returns the options on which the models depend, for the name of the group's folder."""
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
    """Limits the sum of the numbers passed to `advance`, because a mapper may register a photo in several models."""
    left = total

    def capped(count: int) -> None:
        nonlocal left
        count = min(count, left)
        left -= count
        if count:
            advance(count)

    return capped
