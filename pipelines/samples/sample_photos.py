"""A collection of drawn photos with ground truth: `keras-retrieval sample-photos OUT`.

OUT/NAME/NN.jpg are the photos, one folder per building, with different viewpoints, lenses, crops, light and objects in
front. OUT/positions.csv, which `tuples` reads, has the position of each camera in metres, with the buildings along a
street, 200 m apart. OUT/scene.json has the ground truth in metres and pixels, x to the right, y down, with the centre
of a pixel at .5:

- `buildings`: for each building its `name`, its `points` (x, y, z of all corners) and its `photos`;
- a photo: `name` (NAME/NN.jpg), `width`, `height`, `K`, `R`, `t` (a point X is projected to K (R X + t)), `box` (left,
  top, right, bottom of the building's projection, clipped to the photo, without regard to objects in front of it) and
  `covered` (the fraction of the building's pixels that objects in front hide).
"""

from pathlib import Path
from typing import Annotated

import typer

from keras_retrieval.errors import ArgumentError

from .collection import draw_collection


def sample_photos(
    out: Annotated[Path, typer.Argument(help="The folder to write.", show_default=False)],
    *,
    buildings: Annotated[int, typer.Option(help="Number of buildings, at least 1.")] = 8,
    views: Annotated[int, typer.Option(help="Photos per building, at least 1.")] = 12,
    size: Annotated[int, typer.Option(help="Longer side of a photo in pixels, at least 64.")] = 640,
    seed: Annotated[int, typer.Option(help="Random seed of the collection, at least 0.")] = 0,
    workers: Annotated[int, typer.Option(help="Number of processes; 0 for one per core.")] = 0,
) -> Path:
    """Draws a collection of photos of invented buildings.

    The same options give the same bytes with any number of workers. A stopped run is continued with the buildings that
    it had not finished.

    Returns:
        `out`.
    """
    limits = {"buildings": (buildings, 1), "views": (views, 1), "size": (size, 64), "seed": (seed, 0)}
    for name, (value, least) in (limits | {"workers": (workers, 0)}).items():
        if value < least:
            raise ArgumentError(f"--{name} must be at least {least}, got {value}")
    draw_collection(out, buildings, views, size, seed, workers)
    print(f"{out}: {buildings * views} photos of {buildings} buildings")
    return out
