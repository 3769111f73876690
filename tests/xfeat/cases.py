"""Writes photos and the local features that we find in them: `python -m tests.xfeat.cases FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.small_xfeat import patterned_photo

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
EVERY = 60  # of the photos of a folder
TOP_K = 1000


def photos() -> list[tuple[str, np.ndarray]]:
    """Real photos if there are any, and patterns of sizes that are no multiples of 32."""
    found = [("pattern-odd", patterned_photo()), ("pattern-even", patterned_photo(128, 160))]
    for folder in (DATA / "eval" / "oxford_mini", DATA / "photos", DATA / "eval" / "ukbench_mini"):
        paths = sorted(folder.rglob("*.jpg")) if folder.is_dir() else []
        found += [(f"{folder.name}-{path.stem}", np.array(Image.open(path).convert("RGB"))) for path in paths[::EVERY]]
    return found


def main() -> None:
    """Writes all cases into the folder that the command line names."""
    from pipelines.local_features.extractors import XFEAT, open_extractor

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    extractor = open_extractor(XFEAT, top_k=TOP_K, size=4096, max_pixels=2**28)
    for name, photo in photos():
        keypoints, scores, descriptors = extractor.find(photo)
        np.savez(
            folder / f"{name}.npz",
            photo=photo,
            top_k=TOP_K,
            keypoints=keypoints,
            scores=scores,
            descriptors=descriptors,
        )


if __name__ == "__main__":
    main()
