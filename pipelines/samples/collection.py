"""Renders a collection of synthetic photos building by building, in several processes.

An interrupted run can be continued with the buildings that are not finished.
"""

import json
import logging
import shutil
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ..files.child_process import without_current_folder
from ..files.durable import FolderError, partial_of, read_manifest, seal, write_file
from ..files.machine import cores
from ..files.progress import progress
from . import scenery
from .buildings import building_names, make_building
from .camera import box_of, develop, place_camera
from .mesh import Mesh, make_mesh
from .renderer import Camera, Shadows, View, shade, view_from
from .solids import Model

log = logging.getLogger("keras_retrieval")

KIND, VERSION, SCENE, POSITIONS = "sample photos", 1, "scene.json", "positions.csv"
BLOCK = 200.0  # metres from one building to the next in positions.csv; cameras are within 90 m of their building
HIDDEN = 0.3  # the largest fraction of a building that objects in front may hide


def draw_collection(out: Path, buildings: int, views: int, size: int, seed: int, workers: int) -> None:
    """Renders a collection of photos, or continues an interrupted run with the same options.

    A complete collection with the same options is not changed.

    Args:
        out: the folder to write; the module `sample_photos` describes its files.
        buildings: the number of buildings.
        views: the number of photos per building.
        size: the longer side of a photo in pixels.
        seed: the random seed of the collection.
        workers: the number of processes; 0 for one per CPU core.

    Raises:
        FolderError: `out` is not empty and contains a collection with other options, or files that this command did not
            write; or `out` cannot be created.
    """
    options = {"buildings": buildings, "views": views, "size": size, "seed": seed}
    if _is_complete(out, options):
        log.info(f"{out} is complete already")
        return
    partial = _start(out, options)
    _draw_missing(partial, options, workers or cores())
    _finish(partial, out, options)


def _is_complete(out: Path, options: dict[str, int]) -> bool:
    if out.is_dir() and not any(out.iterdir()):
        return False
    if not out.exists():
        return False
    made = read_manifest(out, kind=KIND, version=VERSION)["options"]
    if made != options:
        others = ", ".join(f"{name} {value}" for name, value in made.items())
        raise FolderError(f"{out} was made with other options ({others}): name another folder, or remove it")
    return True


def _start(out: Path, options: dict[str, int]) -> Path:
    """Returns the unfinished folder of an interrupted run with the same options, or creates a new folder."""
    partial = partial_of(out)
    note = partial / "options.json"
    try:
        if not (note.is_file() and json.loads(note.read_text()) == options):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_file(note, json.dumps(options))
    except OSError as error:
        reason = error.strerror or error
        raise FolderError(
            f"{out} cannot be created ({reason}): name a folder in a place with write permission"
        ) from error
    return partial


def _draw_missing(partial: Path, options: dict[str, int], workers: int) -> None:
    """Renders the photos of every building that has no ground truth file yet."""
    missing = [i for i in range(options["buildings"]) if not _truth_file(partial, i).is_file()]
    views, size, seed = options["views"], options["size"], options["seed"]
    with progress("sample-photos", len(missing) * views) as advance:
        if workers == 1 or len(missing) < 2:
            for number in missing:
                _draw_building(partial, number, views, size, seed)
                advance(views)
            return
        context = get_context("fork" if sys.platform == "linux" else "spawn")
        with without_current_folder(), ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
            jobs: set[Future[None]] = {pool.submit(_draw_building, partial, i, views, size, seed) for i in missing}
            while jobs:
                done, jobs = wait(jobs, return_when=FIRST_COMPLETED)
                for job in done:
                    job.result()
                    advance(views)


def _finish(partial: Path, out: Path, options: dict[str, int]) -> None:
    files = [_truth_file(partial, i) for i in range(options["buildings"])]
    buildings = [json.loads(file.read_text()) for file in files]
    write_file(partial / SCENE, json.dumps({"seed": options["seed"], "buildings": buildings}))
    write_file(partial / POSITIONS, _positions(buildings))
    for file in (*files, partial / "options.json"):
        file.unlink(missing_ok=True)
    if out.is_dir():
        out.rmdir()
    seal(partial, out, kind=KIND, version=VERSION, options=options, photos=options["buildings"] * options["views"])


def _positions(buildings: list[dict[str, Any]]) -> str:
    """Returns the CSV table of camera positions, with the columns photo, east, north."""
    rows = ["photo,east,north"]
    for number, building in enumerate(buildings):
        for photo in building["photos"]:
            eye = -np.array(photo["R"]).T @ np.array(photo["t"])
            rows.append(f"{photo['name']},{eye[0] + BLOCK * number:.3f},{eye[1]:.3f}")
    return "\n".join([*rows, ""])


def _truth_file(partial: Path, number: int) -> Path:
    return partial / f"truth-{number}.json"


def _draw_building(partial: Path, number: int, views: int, size: int, seed: int) -> None:
    """Renders the photos of one building, then writes its ground truth file, which marks the building as finished."""
    name = building_names(number + 1)[-1]
    model = make_building(number, seed)
    mesh = make_mesh(model.faces, model.sheets)
    points = np.unique(np.concatenate([face.corners for face in model.faces]).round(4), axis=0)
    ground = scenery.make_ground(model.rng)
    arc = float(model.rng.uniform(70, 92))
    (partial / name).mkdir(exist_ok=True)
    photos = []
    for view in range(views):
        rng = np.random.default_rng([seed, number, view, 1])
        camera = place_camera(rng, points, (view + 0.5) / views * arc - arc / 2, size)
        picture, covered = _render(rng, mesh, points, ground, camera)
        file = f"{name}/{view + 1:02d}.jpg"
        (partial / file).write_bytes(develop(rng, picture, camera))
        photos.append(
            {"name": file, **_camera_facts(camera), "box": box_of(camera, points), "covered": round(covered, 4)}
        )
    truth = {"name": name, "points": points.tolist(), "photos": photos}
    write_file(_truth_file(partial, number), json.dumps(truth))


def _camera_facts(camera: Camera) -> dict[str, Any]:
    matrices = {"K": camera.K.tolist(), "R": camera.R.tolist(), "t": camera.t.tolist()}
    return {"width": camera.width, "height": camera.height, **matrices}


def _render(
    rng: np.random.Generator, building: Mesh, points: np.ndarray, ground: np.ndarray, camera: Camera
) -> tuple[np.ndarray, float]:
    """Renders one photo; returns it in linear RGB, (height, width, 3), and the hidden fraction of the building."""
    light = scenery.make_light(rng)
    model, count = scenery.lay_ground(rng, ground), len(building.corners)
    _scatter(rng, model, points, camera.centre)
    mesh = building + make_mesh(model.faces, model.sheets)
    view = view_from(camera, mesh)
    for face in range(count + 1):
        view.draw(face)
    casting, covered = _add_objects(view, count, rng.uniform(0.02, HIDDEN))
    shadows = Shadows(mesh, casting, light.sun, points)
    colours, cover = shade(view, camera, light, shadows)
    return colours + scenery.paint_sky(rng, camera, light) * (1 - cover)[..., None], covered


def _scatter(rng: np.random.Generator, model: Model, points: np.ndarray, eye: np.ndarray) -> None:
    """Adds trees beside and behind a building, and people, lamps, cars and plants between camera and building."""
    low, high = points.min(0), points.max(0)
    for _ in range(int(rng.integers(3, 10))):
        side = rng.choice([-1, 1])
        x = (high[0] if side > 0 else low[0]) + side * rng.uniform(2, 16)
        plant = (scenery.tree, scenery.tree, scenery.conifer)[rng.integers(3)]
        scenery.stand_up(model, plant(rng), np.array([x, rng.uniform(4, 26)]), eye)
    target = np.array([(low[0] + high[0]) / 2, low[1]])
    for _ in range(int(rng.integers(4, 13))):
        part = rng.uniform(0.35, 0.95)
        ahead = target - eye[:2]
        across = np.array([-ahead[1], ahead[0]]) * rng.uniform(-0.42, 0.42)
        place = eye[:2] + (ahead + across) * part
        if place[1] < low[1] - 0.8:
            kind = scenery.PICTURES[rng.integers(len(scenery.PICTURES))]
            scenery.stand_up(model, kind(rng), place, eye)


def _add_objects(view: View, count: int, limit: float) -> tuple[np.ndarray, float]:
    """Draws the objects in front of and behind a building, except objects that would hide too much of the building.

    Args:
        view: the z-buffer, in which the building and the ground are already drawn. The faces of the objects follow the
            faces of the building and the single face of the ground.
        count: the number of faces of the building.
        limit: the largest fraction of the building's samples that objects may hide.

    Returns:
        The numbers of the faces that cast shadows, which are those of the building and of the drawn objects; and the
        fraction of the building's samples that objects hide.
    """
    seen = max(int((view.ids < count).sum() - (view.ids < 0).sum()), 1)
    hidden, standing = 0, list(range(count))
    for face in range(count + 1, len(view.boxes)):
        x0, x1, y0, y1 = view.boxes[face]
        ids, near = view.ids[y0:y1, x0:x1], view.near[y0:y1, x0:x1]
        before, depth = ids.copy(), near.copy()
        view.draw(face)
        more = int(((before >= 0) & (before < count) & (ids == face)).sum())
        if hidden + more > limit * seen:
            ids[:], near[:] = before, depth
        else:
            hidden += more
            standing.append(face)
    return np.array(standing), hidden / seen
