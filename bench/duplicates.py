"""Recall and precision of `duplicates` on photos of which some are copied: same bytes, re-compressed, resized, cropped.

    python -m bench.duplicates [--work FOLDER] [--photos FOLDER ..] [--copied 100] [--seed 0]

Of each of --copied photos, drawn at random, one copy of every kind is added. A pair is right if both photos come from
one photo. Photos of the collection that are copies of each other count as wrong pairs unless they are in SAME, which
lists the copies that were found by eye.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import Resampling, Transpose

from bench.photos import DATA
from bench.record import recorded
from pipelines.copies.duplicates import duplicates
from pipelines.copies.file import read_groups
from pipelines.photos.intake import list_photos

FOLDERS = [DATA / "eval" / "oxford_mini" / "jpg", DATA / "photos"]
SAME = [("all_souls_000014", "all_souls_000073")]  # photos of Oxford Buildings that differ in compression only

Change = Callable[[Image.Image, np.random.Generator], tuple[Image.Image, int]]
"""Changes an image with a random generator; returns the image and the quality of its JPEG."""


def _crop(image: Image.Image, rng: np.random.Generator, share: float = 0.05) -> Image.Image:
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = (
        int(rng.integers(0, whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True)
    )
    return image.crop((left, top, left + width, top + height))


def _resize(image: Image.Image, factor: float = 0.7) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Resampling.LANCZOS)


CHANGES: dict[str, Change] = {
    "re-compressed, JPEG quality 50": lambda image, _: (image, 50),
    "resized to 70 %": lambda image, _: (_resize(image), 90),
    "cropped by 5 %": lambda image, rng: (_crop(image, rng), 90),
    "all three": lambda image, rng: (_resize(_crop(image, rng)), 50),
    "cropped by 10 %": lambda image, rng: (_crop(image, rng, 0.1), 90),
    "turned by 90 degrees": lambda image, _: (image.transpose(Transpose.ROTATE_90), 90),
    "mirrored": lambda image, _: (image.transpose(Transpose.FLIP_LEFT_RIGHT), 90),
    "grey": lambda image, _: (image.convert("L"), 90),
    "brighter by 20 %": lambda image, _: (Image.eval(image, lambda value: min(255, round(1.2 * value))), 90),
}
BYTES = "same bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "keras-retrieval-duplicates",
        help="folder of the copies and the results",
    )
    parser.add_argument("--photos", type=Path, nargs="+", default=FOLDERS, help="folders of photos")
    parser.add_argument("--copied", type=int, default=100, help="number of photos that are copied")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the photos and the crops")
    arguments = parser.parse_args()
    sources = make(arguments.work / "photos", arguments.photos, arguments.copied, arguments.seed)
    started = time.monotonic()
    groups = read_groups(duplicates(arguments.work / "photos", output=arguments.work / "found"))
    measure(sources, groups, time.monotonic() - started)


def make(folder: Path, photos: list[Path], copied: int, seed: int) -> dict[str, tuple[str, str]]:
    """Makes a folder with links to photos and with copies of some of them.

    Returns:
        A dict from the name of each photo to the photo that it comes from and to the kind of copy, "" for an original.
    """
    sources: dict[str, tuple[str, str]] = {}
    originals = [(place, name) for place in photos for name in list_photos(place)]
    for number, (place, name) in enumerate(originals):
        link = folder / "originals" / f"{number:05}-{Path(name).name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to((place / name).resolve())
        sources[link.relative_to(folder).as_posix()] = (link.name, "")
    same = {second: first for first, second in SAME}
    by_stem = {name.partition("-")[2].rpartition(".")[0]: name for name, _ in sources.values()}
    for name, (original, _) in list(sources.items()):
        first = same.get(original.partition("-")[2].rpartition(".")[0])
        if first in by_stem:
            sources[name] = (by_stem[first], "")
    rng = np.random.default_rng(seed)
    (folder / "copies").mkdir(exist_ok=True)
    for row in rng.choice(len(originals), min(copied, len(originals)), replace=False).tolist():
        name, (source, _) = list(sources.items())[row]
        path = folder / "copies" / f"{row:05}-bytes{Path(name).suffix}"
        path.write_bytes((folder / name).read_bytes())
        sources[path.relative_to(folder).as_posix()] = (source, BYTES)
        image = ImageOps.exif_transpose(Image.open(folder / name)).convert("RGB")
        for number, (kind, change) in enumerate(CHANGES.items()):
            path = folder / "copies" / f"{row:05}-{number}.jpg"
            changed, quality = change(image, rng)
            changed.save(path, quality=quality)
            sources[path.relative_to(folder).as_posix()] = (source, kind)
    return sources


def measure(sources: dict[str, tuple[str, str]], groups: list[list[str]], seconds: float) -> None:
    """Prints and records recall for each kind of copy, and precision over all pairs."""
    found = {pair for group in groups for pair in combinations(sorted(group), 2)}
    original = {source: name for name, (source, kind) in sources.items() if not kind and name.endswith(source)}
    right = sum(sources[one][0] == sources[other][0] for one, other in found)
    with recorded("duplicates") as add:
        for kind in (BYTES, *CHANGES):
            copies = [(name, source) for name, (source, own) in sources.items() if own == kind]
            hits = sum(tuple(sorted((name, original[source]))) in found for name, source in copies)
            add({"copies": kind, "number": len(copies), "recall": f"{hits / len(copies):.3f}"})
        add({"copies": f"precision of the {len(found):,} pairs found", "number": right, "recall": None})
    wrong = [pair for pair in sorted(found) if sources[pair[0]][0] != sources[pair[1]][0]]
    print(f"precision {right / max(1, len(found)):.4f}, {seconds:.0f} s for {len(sources):,} photos")
    print("\n".join(f"wrong: {one} and {other}" for one, other in wrong[:20]))


if __name__ == "__main__":
    main()
