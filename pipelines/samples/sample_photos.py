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

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from ..command.options import Argument, Option, Options, takes
from .collection import draw_collection


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """The options of the step `sample-photos`."""

    out: Annotated[Path, Argument("The folder to write.")] = field(kw_only=False)
    buildings: Annotated[int, Option("Number of buildings.", at_least=1)] = 8
    views: Annotated[int, Option("Photos per building.", at_least=1)] = 12
    size: Annotated[int, Option("Longer side of a photo in pixels.", at_least=64)] = 640
    seed: Annotated[int, Option("Random seed of the collection.", at_least=0)] = 0
    workers: Annotated[int, Option("Number of processes; 0 for one per core.", at_least=0)] = 0


@takes(SampleOptions)
def sample_photos(options: SampleOptions) -> Path:
    """Draws a collection of photos of invented buildings.

    The same options give the same bytes with any number of workers. A stopped run is continued with the buildings that
    it had not finished.

    Returns:
        `out`.

    Raises:
        ArgumentError: an option is out of range.
    """
    out, buildings, views = options.out, options.buildings, options.views
    draw_collection(out, buildings, views, options.size, options.seed, options.workers)
    print(f"{out}: {buildings * views} photos of {buildings} buildings")
    return out
