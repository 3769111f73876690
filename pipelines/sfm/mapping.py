"""Reconstructs COLMAP models, which consist of cameras and 3D points, from a group of photos with verified pairs."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..engines.engine import run_units
from ..engines.work import Worker
from ..files.durable import FolderError, fingerprint, partial_of, read_manifest, seal
from ..files.locks import lock
from .colmap import Pair, colmap_name, load_colmap, photo_name
from .database_parts import as_single_file, write_part
from .errors import ModelError
from .models import read_model
from .options import ReconstructOptions
from .work_folder import DATABASE

KIND, VERSION = "COLMAP models", 1
SNAPSHOTS, LOCK = "snapshots", ".lock"
SNAPSHOT_PHOTOS = (
    50  # registered photos after which the incremental mapper writes its model; a kill loses at most these
)
OVERLAP = 50  # photos that neighbouring parts of a group have in common

log = logging.getLogger("keras_retrieval")


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


@dataclass(frozen=True)
class Group:
    """Photos that are mapped together, a connected component of the graph of verified pairs.

    Attributes:
        photos: the names of the photos.
        inliers: maps each verified pair in the group to the number of inliers (matches consistent with one geometry).
    """

    photos: Sequence[str]
    inliers: Mapping[Pair, int]

    def __len__(self) -> int:
        return len(self.photos)


def map_groups(work: Path, groups: Sequence[Group], options: ReconstructOptions) -> list[Model]:
    """Reconstructs models of groups of photos on the workers of an engine, the largest groups first.

    Args:
        work: the folder of the reconstruction, see `map_group`.
        groups: the groups.
        options: the options of the reconstruction.

    Returns:
        The models of all groups, in the order of the groups.

    Raises:
        UnitsFailedError: a group failed in every attempt.
        EngineError: the cluster cannot be reached.
        ReconstructionError: another process uses the database.
    """
    engine, models = options.chosen_engine, dict[int, list[Model]]()
    order = range(len(groups)) if engine.local else sorted(range(len(groups)), key=lambda row: -len(groups[row]))
    if groups and not engine.local:
        as_single_file(work / DATABASE)
    job = MapJob(work.absolute(), options)
    units = {number: groups[number] for number in order}
    run_units(job, units, engine=engine, label="models", done=models.__setitem__)
    return [
        replace(model, folder=work / model.folder.relative_to(job.work))
        for number in range(len(groups))
        for model in models[number]
    ]


@dataclass(frozen=True)
class MapJob:
    """What a worker needs to map groups.

    Attributes:
        work: the folder of the reconstruction.
        options: the options of the reconstruction. With an engine other than local, a worker copies what it needs of
            the database to its own disk, because machines cannot share a database in use.
    """

    work: Path
    options: ReconstructOptions

    def open(self) -> Worker:
        """Loads COLMAP."""
        load_colmap()
        return self._map

    def _map(self, number: int, group: Group, advance: Callable[[int], None]) -> list[Model]:
        whole = self.work / DATABASE
        if self.options.chosen_engine.local:
            return map_group(self.work, group, self.options, advance, whole)
        with TemporaryDirectory(prefix="keras-retrieval-") as folder:
            part = Path(folder) / DATABASE
            write_part(whole, part, group.photos, list(group.inliers), descriptors=False)
            return map_group(self.work, group, self.options, advance, part)


def map_group(work: Path, group: Group, options: ReconstructOptions, advance: Callable, database: Path) -> list[Model]:
    """Reconstructs models of a group of photos, unless an earlier run has already written them.

    Of two processes that are given the same group, one waits for the other.

    Args:
        work: the folder of the reconstruction with images. The models are written to a sub-folder of `work`/models,
            whose name is a hash of the group, its verified pairs and the options.
        group: the photos and their verified pairs.
        options: the options of the reconstruction, of which those in `_settings` are used.
        advance: a function that is called with the number of photos processed since its last call, to show progress.
            The numbers add up to the size of the group.
        database: the COLMAP database with the features and the two-view geometries of the group.

    Returns:
        The models with at least `min_photos` photos, the model with the most photos first. The list is empty if no such
        model can be reconstructed.
    """
    edges = sorted([*pair, count] for pair, count in group.inliers.items())
    folder = work / "models" / fingerprint(list(group.photos), edges, _settings(options), VERSION)
    capped = _at_most(advance, len(group))
    if not folder.exists():
        with _locked(partial_of(folder)):
            if folder.exists():  # another process has mapped it
                shutil.rmtree(partial_of(folder), ignore_errors=True)
            else:
                inputs = _Inputs(database, work / "images", group.photos, options, capped)
                _map(folder, inputs)
    capped(len(group))
    return read_group(folder)


@dataclass(frozen=True)
class _Inputs:
    """What a mapper needs of a group."""

    database: Path
    images: Path
    photos: Sequence[str]
    options: ReconstructOptions
    advance: Callable[[int], None]


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    """Locks the folder of an unfinished group, which is made."""
    while True:
        partial.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(partial / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            break
        except FileNotFoundError:  # another process has completed the folder meanwhile
            continue
    try:
        lock(file, wait=True)
        yield
    finally:
        os.close(file)


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
    settings = {
        "mapper": options.mapper,
        "min_photos": options.min_photos,
        "min_inliers": options.min_inliers,
        "seed": options.seed,
    }
    if options.mapper == "hierarchical":
        settings["leaf_photos"] = options.leaf_photos
    return settings if options.group_minutes is None else settings | {"group_minutes": options.group_minutes}


def _map(folder: Path, inputs: _Inputs) -> None:
    partial, options = partial_of(folder), inputs.options
    _clear(partial)
    found = _MAPPERS[options.mapper](partial, inputs)
    models = []
    for number, model in sorted(found.items(), key=lambda item: (-item[1].num_reg_images(), item[0])):
        if model.num_reg_images() >= options.min_photos:
            models.append(_facts(number, model))
        else:
            shutil.rmtree(partial / str(number), ignore_errors=True)
    shutil.rmtree(partial / SNAPSHOTS, ignore_errors=True)
    facts: dict[str, Any] = {"photos": list(inputs.photos), "options": _settings(options), "models": models}
    seal(partial, folder, kind=KIND, version=VERSION, **facts)


def _clear(partial: Path) -> None:
    """Makes the folder of an unfinished group, without what an interrupted run left there but for its snapshots."""
    partial.mkdir(parents=True, exist_ok=True)
    for path in partial.iterdir():
        if path.is_dir() and path.name != SNAPSHOTS:
            shutil.rmtree(path)
        elif not path.is_dir() and path.name != LOCK:
            path.unlink()


def _latest_snapshot(folder: Path) -> Path | None:
    """The newest snapshot that is complete; a run that is killed while it writes one leaves it incomplete."""
    for path in sorted(folder.glob("*"), reverse=True):
        try:
            if read_model(path).names:
                return path
        except (ModelError, OSError):
            continue
    return None


def _facts(number: int, model: Any) -> dict[str, Any]:
    return {
        "folder": str(number),
        "photos": sorted(photo_name(model.images[image].name) for image in model.reg_image_ids()),
        "points": model.num_points3D(),
        "observations": model.compute_num_observations(),
        "error": round(model.compute_mean_reprojection_error(), 4),
    }


def _incremental(output: Path, inputs: _Inputs) -> dict[int, Any]:
    """Runs the incremental mapper, from the latest snapshot of an interrupted run if there is one."""
    colmap, snapshots, options = load_colmap(), output / SNAPSHOTS, inputs.options
    snapshot = _latest_snapshot(snapshots)
    snapshots.mkdir(exist_ok=True)

    def run(names: Sequence[str], folder: Path, begun: Path | None) -> dict[int, Any]:
        pipeline = _incremental_options(names, options)
        pipeline.snapshot_path, pipeline.snapshot_frames_freq = snapshots, SNAPSHOT_PHOTOS
        return colmap.incremental_mapping(
            inputs.database,
            inputs.images,
            folder,
            pipeline,
            input_path=begun or "",
            initial_image_pair_callback=lambda: inputs.advance(2),
            next_image_callback=lambda: inputs.advance(1),
        )

    if snapshot is None:
        return run(inputs.photos, output, None)
    begun = read_model(snapshot)
    log.info("continuing a model of %s photos from its snapshot", f"{len(begun.names):,}")
    inputs.advance(len(begun.names))
    (output / "0").mkdir()  # COLMAP writes a model that it continues to the folder itself, others to folders in it
    found = dict(enumerate(run(inputs.photos, output / "0", snapshot).values()))
    if not found:
        shutil.rmtree(output / "0")
    placed = {photo_name(model.images[image].name) for model in found.values() for image in model.reg_image_ids()}
    rest = [name for name in inputs.photos if name not in placed]
    if len(rest) >= options.min_photos:
        # COLMAP makes no further models of a group after it has continued one.
        further = output / "further"
        further.mkdir()
        for number, model in run(rest, further, None).items():
            (further / str(number)).rename(output / str(1 + number))
            found[1 + number] = model
        shutil.rmtree(further)
    return found


def _incremental_options(group: Sequence[str], options: ReconstructOptions) -> Any:
    return load_colmap().IncrementalPipelineOptions(
        image_names=[colmap_name(name) for name in group],
        min_model_size=options.min_photos,
        min_num_matches=options.min_inliers,
        ignore_watermarks=True,
        random_seed=options.seed,
        max_runtime_seconds=_seconds(options.group_minutes),
    )


def _seconds(minutes: float | None) -> int:
    """A time limit as COLMAP takes it: a 32-bit number of seconds, of which 0 would be none."""
    return -1 if minutes is None else min(max(1, round(60 * minutes)), 2**31 - 1)


def _hierarchical(output: Path, inputs: _Inputs) -> dict[int, Any]:
    """Runs COLMAP's hierarchical mapper, which maps overlapping parts of a group side by side and joins them."""
    colmap, options = load_colmap(), inputs.options
    pipeline = colmap.HierarchicalPipelineOptions(incremental_options=_incremental_options(inputs.photos, options))
    pipeline.clustering_options.leaf_max_num_images = options.leaf_photos
    pipeline.clustering_options.image_overlap = min(options.leaf_photos // 2, OVERLAP)
    return colmap.hierarchical_mapping(inputs.database, inputs.images, output, pipeline)


def _global(output: Path, inputs: _Inputs) -> dict[int, Any]:
    colmap, options = load_colmap(), inputs.options
    pipeline = colmap.GlobalPipelineOptions(
        image_names=[colmap_name(name) for name in inputs.photos],
        min_model_size=options.min_photos,
        min_num_matches=options.min_inliers,
        ignore_watermarks=True,
        random_seed=options.seed,
    )
    return colmap.global_mapping(inputs.database, inputs.images, output, pipeline)


_MAPPERS = {"incremental": _incremental, "hierarchical": _hierarchical, "global": _global}


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
