"""Real descriptors for bench.made_descriptors, of several views of each photo that is available.

A view is a crop of the photo with different brightness, contrast and saturation, as another camera might have taken it.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bench.photos import DATA, network, photos
from pipelines.descriptors.describer import describer
from pipelines.files.durable import write_array
from pipelines.files.progress import progress
from pipelines.photos.augmentation import Augmentation
from pipelines.photos.intake import list_photos
from pipelines.photos.reader import read_photo

VIEWS = 4  # views per photo, including the photo itself
SIDE = 128  # width and height of a view in pixels
BATCH = 10  # photos whose views are described in one batch


def photo_views(work: Path) -> np.ndarray:
    """Describes several views of each photo, or returns the descriptors that are stored in `work` already.

    View 0 is the photo itself. For the other views, the photo is zoomed in or out by a random factor of up to 2, and
    its brightness, contrast and saturation are changed by up to 30 %.

    Args:
        work: folder in which the descriptors are stored.

    Returns:
        VGG16-GeM descriptors of the VIEWS views of P photos, (P, VIEWS, 512) float32, of unit length.
    """
    path = work / "views.npy"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write_array(path, _described())
    return np.load(path)


def _described() -> np.ndarray:
    folders = [DATA / "eval/oxford_mini/jpg", DATA / "photos"]
    if not all(folder.is_dir() for folder in folders):
        folders = [photos("none", 400)[0]]
    paths = [folder / name for folder in folders for name in list_photos(folder)]
    describe = describer(network("vgg16_gem"), bfloat16=True)
    rows = []
    with progress("views", len(paths)) as advance:
        for start in range(0, len(paths), BATCH):
            some = paths[start : start + BATCH]
            rows.append(describe(np.stack([view for path in some for view in _views(path)])))
            advance(len(some))
    return np.concatenate(rows).reshape(len(paths), VIEWS, -1)


def _views(path: Path) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(list(path.name.encode()))
    pixels = read_photo(path, size=2 * SIDE)
    change = Augmentation(strength=0.3, zoom=0.5)
    for number in range(VIEWS):
        view = change(pixels, rng) if number else pixels
        yield np.asarray(Image.fromarray(view).resize((SIDE, SIDE)))
