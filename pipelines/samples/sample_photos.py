"""Draws a photo collection of made buildings, with its truth: `keras-retrieval sample-photos OUT`.

OUT/NAME/NN.jpg are the photos, one folder for each building: other places, lenses, crops, light and things in front.
OUT/positions.csv, which `tuples` takes, says where each was taken, in metres, if the buildings stood along a street,
BLOCK metres from one to the next.
OUT/scene.json says what they show, in metres and pixels, x to the right, y down, a pixel's centre at .5:

- `buildings`: for each its `name`, its `points` (every corner of it, x y z) and its `photos`;
- a photo: `name` (NAME/NN.jpg), `width`, `height`, `K`, `R`, `t` (a point X appears at K (R X + t)), `box` (left, top,
  right, bottom: the exact bounds of the building's projection, cut at the photo's borders, whatever stands in
  front of it) and `covered` (the share of the building's pixels that other things hide).
"""

import json
import os
import shutil
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..files.durable import FolderError, partial_of, read_manifest, seal, write_file
from ..files.progress import progress
from . import scenery
from .buildings import building_names, make_building
from .camera import box_of, develop, place_camera
from .mesh import Mesh, make_mesh
from .renderer import Camera, Shadows, View, shade, view_from
from .solids import Model

KIND, VERSION, SCENE, POSITIONS = "sample photos", 1, "scene.json", "positions.csv"
BLOCK = 200.0  # metres; cameras stand within 90 of their building
HIDDEN = 0.3  # the largest share of a building that things in front may hide


def sample_photos(
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    *,
    buildings: Annotated[int, typer.Option(help="How many buildings.")] = 8,
    views: Annotated[int, typer.Option(help="Photos of each building.")] = 12,
    size: Annotated[int, typer.Option(help="A photo's longer side, pixels.")] = 640,
    seed: Annotated[int, typer.Option(help="Another seed draws another collection.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one for each core.")] = 0,
) -> Path:
    """Draws a photo collection of made buildings.

    The same options draw the same bytes, whatever the number of workers. A run that was stopped goes on with
    the buildings that it had not finished.

    Returns:
        `out`.

    Raises:
        ValueError: an option is out of its range.
        FolderError: `out` holds something else, or cannot be made.
    """
    _check(buildings=(buildings, 1), views=(views, 1), size=(size, 64), seed=(seed, 0), workers=(workers, 0))
    options = {"buildings": buildings, "views": views, "size": size, "seed": seed}
    if _is_whole(out, options):
        print(f"{out}: whole already, {buildings * views} photos of {buildings} buildings")
        return out
    partial = _begin(out, options)
    _draw_missing(partial, options, workers or os.cpu_count() or 1)
    _finish(partial, out, options)
    print(f"{out}: {buildings * views} photos of {buildings} buildings")
    return out


def _check(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise ValueError(f"--{name} {value} is too small: give {least} or more")


def _is_whole(out: Path, options: dict[str, int]) -> bool:
    if out.is_dir() and not any(out.iterdir()):
        return False
    if not out.exists():
        return False
    made = read_manifest(out, kind=KIND, version=VERSION)["options"]
    if made != options:
        said = ", ".join(f"{name} {value}" for name, value in made.items())
        raise FolderError(f"{out} was drawn with other options ({said}): name another folder or remove it")
    return True


def _begin(out: Path, options: dict[str, int]) -> Path:
    """The folder to work in: an earlier run's if it had the same options, else a fresh one."""
    partial = partial_of(out)
    note = partial / "options.json"
    try:
        if not (note.is_file() and json.loads(note.read_text()) == options):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write_file(note, json.dumps(options))
    except OSError as error:
        reason = error.strerror or error
        raise FolderError(f"{out} cannot be made ({reason}): name a folder in a place that you may write to") from error
    return partial


def _draw_missing(partial: Path, options: dict[str, int], workers: int) -> None:
    """Draws every building that has no truth file yet, in as many processes as there are workers."""
    missing = [i for i in range(options["buildings"]) if not _truth_file(partial, i).is_file()]
    views, size, seed = options["views"], options["size"], options["seed"]
    with progress("sample-photos", len(missing) * views) as advance:
        if workers == 1 or len(missing) < 2:
            for number in missing:
                _draw_building(partial, number, views, size, seed)
                advance(views)
            return
        context = get_context("fork" if sys.platform == "linux" else "spawn")
        with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
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
    """A table of where the photos were taken, the columns photo, east, north."""
    rows = ["photo,east,north"]
    for number, building in enumerate(buildings):
        for photo in building["photos"]:
            eye = -np.array(photo["R"]).T @ np.array(photo["t"])
            rows.append(f"{photo['name']},{eye[0] + BLOCK * number:.3f},{eye[1]:.3f}")
    return "\n".join([*rows, ""])


def _truth_file(partial: Path, number: int) -> Path:
    return partial / f"truth-{number}.json"


def _draw_building(partial: Path, number: int, views: int, size: int, seed: int) -> None:
    """Draws one building's photos and last, as the sign that they are done, its truth."""
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
    """The linear picture, (height, width, 3), and the share of the building that is hidden."""
    light = scenery.make_light(rng)
    model, count = scenery.lay_ground(rng, ground), len(building.corners)
    _scatter(rng, model, points, camera.centre)
    mesh = building + make_mesh(model.faces, model.sheets)
    view = view_from(camera, mesh)
    for face in range(count + 1):
        view.draw(face)
    casting, covered = _add_things(view, count, rng.uniform(0.02, HIDDEN))
    shadows = Shadows(mesh, casting, light.sun, points)
    colours, cover = shade(view, camera, light, shadows)
    return colours + scenery.paint_sky(rng, camera, light) * (1 - cover)[..., None], covered


def _scatter(rng: np.random.Generator, model: Model, points: np.ndarray, eye: np.ndarray) -> None:
    """Stands trees beside and behind the building, and all sorts of things between it and the camera."""
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


def _add_things(view: View, count: int, limit: float) -> tuple[np.ndarray, float]:
    """Draws the things after the `count` faces of the building and the ground, as long as they leave enough to see.

    Returns:
        The faces that stand and throw shadows, and the share of the building's samples that they hide.
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
