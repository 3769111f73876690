"""Writes photos, the local features that we find in them, and the pairs of features that LighterGlue matches.

python -m tests.xfeat.cases FOLDER
"""

import sys
from pathlib import Path
from typing import Any

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
    from keras_retrieval.local_features.lighterglue import LighterGlue, to_places
    from keras_retrieval.local_features.weights import LIGHTERGLUE as GLUE
    from keras_retrieval.local_features.weights import published_weights, read_lighterglue_weights
    from pipelines.local_features.extractors import XFEAT, open_extractor
    from pipelines.local_features.matchers import LIGHTERGLUE, open_matcher

    folder = Path(sys.argv[1])
    (folder / "pairs").mkdir(parents=True)
    extractor = open_extractor(XFEAT, top_k=TOP_K, size=4096, max_pixels=2**28)
    last = None
    match = open_matcher(LIGHTERGLUE, {"extractor": extractor.identity})
    assert match is not None, "mutual alone has none"
    network = LighterGlue(read_lighterglue_weights(published_weights(GLUE)), prune=False)
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
        features = extractor.features(photo, photo.shape[1::-1])
        if last is not None:
            pair = (last, features)
            places = [to_places(one.keypoints, one.width, one.height) for one in pair]
            rows, columns = match(*pair)
            probabilities, _, _ = network(places[0], last.descriptors, places[1], features.descriptors)
            arrays: dict[str, Any] = {
                f"{word}{number}": values
                for number, one in enumerate(pair)
                for word, values in {
                    "keypoints": one.keypoints,
                    "descriptors": one.descriptors,
                    "size": np.array([one.width, one.height]),
                }.items()
            }
            matches = np.stack([rows, columns], axis=1)
            np.savez(folder / "pairs" / f"{name}.npz", matches=matches, probabilities=np.exp(probabilities), **arrays)
        last = features


if __name__ == "__main__":
    main()
