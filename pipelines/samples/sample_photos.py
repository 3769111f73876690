"""The command `keras-retrieval sample-photos OUT`, which renders synthetic photos of invented buildings.

The photos are OUT/NAME/NN.jpg, in one folder per building. They differ in viewpoint, lens, crop, light and in the
objects in front of the building. OUT/positions.csv, which the command `tuples` reads, contains the position of each
camera in metres, where the buildings stand along a street, 200 m apart. OUT/scene.json contains the ground truth.
World coordinates are in metres, separately for each building. Image coordinates are in pixels, x to the right and y
down, and the centre of the first pixel is (0.5, 0.5):

- "buildings" lists for each building its "name", its "points" (x, y, z of all corners) and its "photos".
- Each photo has "name" (NAME/NN.jpg), "width", "height", the camera "K", "R", "t" (a point X is projected to
  K (R X + t)), "box" (left, top, right, bottom of the building, clipped to the photo; objects in front of the building
  do not change it) and "covered" (the fraction of the building's pixels that objects in front of it hide).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..command.kinds import Writes
from ..command.options import Argument, Option, Options, takes
from ..files.durable import FolderError
from .collection import draw_collection


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """Options of the command `keras-retrieval sample-photos`."""

    out: Annotated[Path, Argument("The folder to write.", kind=Writes("folder", FolderError))] = field(kw_only=False)
    buildings: Annotated[int, Option("Number of buildings.", at_least=1)] = 8
    views: Annotated[int, Option("Photos per building.", at_least=1)] = 12
    size: Annotated[int, Option("Longer side of a photo in pixels.", at_least=64)] = 640
    seed: Annotated[int, Option("Random seed of the collection.", at_least=0)] = 0
    workers: Annotated[int, Option("Number of processes; 0 for one per core.", at_least=0)] = 0


@takes(SampleOptions)
def sample_photos(options: SampleOptions) -> Path:
    """Renders a collection of synthetic photos of invented buildings, with ground truth.

    The same options produce the same bytes with any number of workers. An interrupted run is continued with the
    buildings that are not finished.

    Returns:
        The folder `out`.

    Raises:
        ArgumentError: an option is out of range.
        FolderError: `out` is not empty and contains a collection with other options, or files that this command did not
            write; or `out` cannot be created.
    """
    out, buildings, views = options.out, options.buildings, options.views
    draw_collection(out, buildings, views, options.size, options.seed, options.workers)
    print(f"{out}: {buildings * views} photos of {buildings} buildings")
    return out
