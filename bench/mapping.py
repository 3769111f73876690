"""Mapping of a group of photos: how its time grows with the number of photos.

    python -m bench.mapping [--photos 500] [--mapper hierarchical] [--leaf-photos 500]

The photos are synthetic: cameras along a street, 1,000 x 750 pixels, each with about 300 features with half a pixel of
noise. A point is seen by about 16 of them, and each photo is matched with the 8 before and the 8 after it. The table
has the CPU time of all threads, which busy cores do not change, of the given number of photos and of twice as many.
"""

import argparse
import os
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.record import recorded
from pipelines.sfm.colmap import Pair, load_colmap, ordered
from pipelines.sfm.mapping import Group, map_group
from pipelines.sfm.options import MAPPERS, ReconstructOptions

WIDTH, HEIGHT, FOCAL = 1000, 750, 800.0
POINTS = 300  # of a photo
SEEN_BY = 16  # photos that see a point
DEPTH = 10.0
MATCHED = 8  # photos before and after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=500, help="number of photos; twice as many follow")
    parser.add_argument("--mapper", default="hierarchical", choices=MAPPERS, help="COLMAP's mapper")
    parser.add_argument("--leaf-photos", type=int, default=500, help="largest number of photos of a part")
    arguments = parser.parse_args()
    name = f"mapping-{arguments.mapper}-{arguments.leaf_photos}"
    with TemporaryDirectory() as folder, recorded(name) as add:
        seconds = []
        for photos in (arguments.photos, 2 * arguments.photos):
            work = Path(folder) / str(photos)
            group = draw_street(work, photos)
            options = ReconstructOptions(work, work, mapper=arguments.mapper, leaf_photos=arguments.leaf_photos)
            before, started = os.times(), time.monotonic()
            models = map_group(work, group, options, lambda _: None, work / "database.db")
            after, wall = os.times(), time.monotonic() - started
            seconds.append(after.user + after.system - before.user - before.system)
            add(
                {
                    "mapper": arguments.mapper,
                    "photos of a part": arguments.leaf_photos if arguments.mapper == "hierarchical" else None,
                    "photos": photos,
                    "models": len(models),
                    "photos of the largest": len(models[0].photos) if models else 0,
                    "reprojection error, px": models[0].error if models else None,
                    "CPU, s": round(seconds[-1], 1),
                    "wall, s": round(wall, 1),
                }
            )
        ratios = [f"{later / before:.2f}" for before, later in pairwise(seconds)]
        print(f"CPU time of twice as many photos: {', '.join(ratios)} times")


def draw_street(work: Path, photos: int) -> Group:
    """Writes a COLMAP database of cameras along a street; returns the group."""
    colmap = load_colmap()
    work.mkdir()
    (work / "images").mkdir()
    rng = np.random.default_rng(0)
    width = WIDTH / FOCAL * DEPTH  # of a photo's view at the distance of the houses
    step = width / SEEN_BY
    ends = np.array([-width, photos * step + width])
    points = rng.uniform(
        [ends[0], -3.0, 0.8 * DEPTH], [ends[1], 3.0, 1.2 * DEPTH], (int(POINTS * np.ptp(ends) / width), 3)
    )
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    inliers: dict[Pair, int] = {}
    names = [f"{number:05}.jpg" for number in range(photos)]
    with colmap.Database.open(work / "database.db") as database:
        for number, name in enumerate(names):
            seen = points - [number * step + rng.normal(0, 0.1 * step), rng.normal(0, 0.1), rng.normal(0, 0.3)]
            angle = rng.normal(0, 0.03)
            turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
            seen = seen @ turn.T
            places = FOCAL * seen[:, :2] / seen[:, 2:] + [WIDTH / 2, HEIGHT / 2]
            places += rng.normal(0, 0.5, places.shape)
            inside = np.flatnonzero(
                ((places > 0) & (places < [WIDTH, HEIGHT])).all(axis=1) & (rng.random(len(places)) < 0.9)
            )
            found[name] = inside, places[inside].astype(np.float32)
            write_image(database, name, found[name][1])
        images = {name: number + 1 for number, name in enumerate(names)}
        for number, one in enumerate(names):
            for other in names[number + 1 : number + 1 + MATCHED]:
                _, rows, others = np.intersect1d(found[one][0], found[other][0], return_indices=True)
                matches = np.stack([rows, others], axis=1).astype(np.uint32)
                if len(matches) < 15:
                    continue
                geometry = colmap.TwoViewGeometry()
                geometry.config = colmap.TwoViewGeometryConfiguration.UNCALIBRATED
                geometry.inlier_matches = matches
                database.write_matches(images[one], images[other], matches)
                database.write_two_view_geometry(images[one], images[other], geometry)
                inliers[ordered(one, other)] = len(matches)
    return Group(names, inliers)


def write_image(database: Any, name: str, keypoints: np.ndarray) -> None:
    """Writes an image with a camera of its own, as COLMAP's extraction of features does."""
    colmap = load_colmap()
    camera = colmap.Camera(
        model="SIMPLE_RADIAL", width=WIDTH, height=HEIGHT, params=[FOCAL, WIDTH / 2, HEIGHT / 2, 0.0]
    )
    camera.has_prior_focal_length = True
    camera.camera_id = database.write_camera(camera)
    rig = colmap.Rig()
    rig.add_ref_sensor(camera.sensor_id)
    rig.rig_id = database.write_rig(rig)
    image = colmap.Image(name=name, camera_id=camera.camera_id)
    image.image_id = database.write_image(image)
    frame = colmap.Frame()
    frame.rig_id = rig.rig_id
    frame.add_data_id(image.data_id)
    frame.frame_id = database.write_frame(frame)
    database.write_keypoints(image.image_id, keypoints)


if __name__ == "__main__":
    main()
