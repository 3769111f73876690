"""Measures localisation: errors of camera centres of photos that were held out, and photos of other places.

    python -m bench.localization [--work work/localization] [--model vgg.keras]

Every fifth photo of a scene is held out. The reference is a reconstruction of all photos; the model is one of the
others, aligned by the cameras that both have. Needs the photos of bench.photos.DATA.
"""

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.photos import DATA, network_file
from bench.record import recorded
from export.localizing.localize import localize
from pipelines.localization.results import Localized
from pipelines.sfm.colmap import load_colmap
from pipelines.sfm.models import model_folders, read_model
from pipelines.sfm.reconstruct import reconstruct

SCENES = ("castle_p30", "herzjesu_p25")
OTHERS = "sceaux_castle"
HELD_OUT, FIRST = 5, 2
CAMERAS = ("auto", "model")


def centres(work: Path) -> dict[str, np.ndarray]:
    """The camera centres of the largest model of a reconstruction, by the names of photos."""
    model = max(map(read_model, model_folders(work / "models")), key=lambda model: len(model.names))
    return {name: model.colmap.images[image].projection_center() for image, name in model.names.items()}


def split(photos: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Links the photos of a scene into folders of all, of those kept, and of those held out."""
    found = sorted(photos.glob("*.jpg"))
    out = found[FIRST::HELD_OUT]
    folders = folder / "all", folder / "kept", folder / "held_out"
    for path, names in zip(folders, (found, [one for one in found if one not in out], out), strict=True):
        path.mkdir(parents=True, exist_ok=True)
        for name in names:
            (path / name.name).unlink(missing_ok=True)
            (path / name.name).symlink_to(name)
    return folders


def reconstructed(photos: tuple[Path, Path], folder: Path, model: Path) -> tuple[Path, Path]:
    """Reconstructs all photos, and then those kept, with the features and matches of the first reconstruction."""
    whole, part = folder / "whole", folder / "part"
    reconstruct(photos[0], whole, model=str(model))
    if not part.exists():
        shutil.copytree(whole, part, symlinks=True, ignore=shutil.ignore_patterns("models"))
    reconstruct(photos[1], part, model=str(model))
    return whole, part


def errors(found: Sequence[Localized], part: dict[str, np.ndarray], whole: dict[str, np.ndarray]) -> np.ndarray:
    """The errors of camera centres in per cent of the extent; infinite for a photo that was not localised."""
    common = sorted(part.keys() & whole.keys())
    aligned = load_colmap().estimate_sim3d(
        np.array([part[name] for name in common]), np.array([whole[name] for name in common])
    )
    extent = np.linalg.norm(np.ptp(np.array(list(whole.values())), axis=0))
    return np.array(
        [
            np.inf
            if one.pose is None
            else 100 * np.linalg.norm(aligned * np.array(one.pose.centre) - whole[one.photo.name]) / extent
            for one in found
        ]
    )


def rows(scene: str, work: Path, model: Path) -> Iterator[dict[str, Any]]:
    """Localises the photos of a scene that are held out, and photos of another place."""
    everything, kept, held_out = split(DATA / "photos" / scene, work / scene)
    whole, part = reconstructed((everything, kept), work / scene, model)
    for camera in CAMERAS:
        started = time.monotonic()
        found = localize(part, part, [held_out], camera=camera, network=str(model))
        seconds = time.monotonic() - started
        off = errors(found, centres(part), centres(whole))
        yield {
            "queries": scene,
            "camera": camera,
            "localised": f"{sum(one.pose is not None for one in found)} of {len(found)}",
            "median error, %": f"{np.median(off):.3f}",
            "largest error, %": f"{off.max():.3f}",
            "fewest inliers": min((one.pose.inliers for one in found if one.pose), default=0),
            "seconds a query": f"{seconds / len(found):.1f}",
        }
    others = localize(part, part, [DATA / "photos" / OTHERS], network=str(model), min_inliers=4)
    most = max((one.pose.inliers for one in others if one.pose), default=0)
    yield {
        "queries": f"{OTHERS}, in {scene}",
        "camera": "auto",
        "localised": f"{sum(one.pose is not None and one.pose.inliers >= 30 for one in others)} of {len(others)}",
        "median error, %": None,
        "largest error, %": None,
        "fewest inliers": f"most: {most}",
        "seconds a query": None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work/localization"), help="folder for the reconstructions")
    parser.add_argument("--model", type=Path, help="a .keras file in place of VGG16-GeM")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    model = arguments.model or arguments.work / "model.keras"
    model = model if model.exists() else network_file(None, "vgg16_gem", arguments.work)
    with recorded("localization") as add:
        for scene in SCENES:
            for row in rows(scene, arguments.work, model):
                add(row)


if __name__ == "__main__":
    main()
