"""Comparison of all pooling methods and visual words: accuracy, time and bytes per photo.

    python -m bench.systems [--work WORK] [--backbone alexnet] [--size 512]

The networks have the same trunk with ImageNet weights and are made in WORK by the steps of this project. R-MAC's
regions are whitened by a PCA that is learned from the regions of other photos, NetVLAD's clusters are initialised from
local descriptors, and region proposals are trained on synthetic photos from `sample-photos`. Nothing else is trained.

`evaluate` scores the networks and visual words on those photos of revisited Oxford that are available (mAP easy, medium
and hard) and, at --sketch-size, on those of Flickr15k, whose queries are sketches. EdgeMAC receives edge maps; all
other networks receive the sketches as if they were photos. Two times are measured on Oxford: milliseconds per photo to
read and describe it, after all shapes are compiled (for visual words, to extract its local features and to index them),
and milliseconds per query to search. Results are stored in WORK.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from bench.extraction import chosen, together
from bench.photos import DATA, network
from bench.record import recorded
from pipelines.descriptors.describer import describer
from pipelines.evaluation.evaluate import evaluate
from pipelines.networks.files import load_model, save_model
from pipelines.photos.intake import list_photos
from pipelines.photos.reading import Reading
from pipelines.samples.sample_photos import sample_photos
from pipelines.sfm.colmap import Database, load_colmap
from pipelines.sfm.photos import prepare
from pipelines.sfm.visual_words import build_index
from pipelines.training.initialization import initialize
from pipelines.training.train_proposals import train_proposals
from pipelines.whitening.whiten import whiten

TEACHING = DATA / "photos"
OXFORD: dict[str, Any] = {
    "dataset": "roxford5k",
    "photos": DATA / "eval" / "oxford_mini" / "jpg",
    "gnd": DATA / "gnd" / "gnd_roxford5k.pkl",
}
SKETCHES: dict[str, Any] = {"dataset": "flickr15k", "photos": DATA / "eval" / "flickr15k_mini"}
TIMED = 48  # number of photos for which the time is measured


@dataclass(frozen=True)
class System:
    """A row of the table: a network or visual words.

    Attributes:
        title: the name of the system in the table.
        model: the .keras file of the network; None for visual words.
        options: further arguments of `evaluate`.
    """

    title: str
    model: Path | None
    options: dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(gettempdir()) / "keras-retrieval-systems",
        help="folder in which networks, indexes and results are stored for the next run",
    )
    parser.add_argument("--backbone", default="alexnet", help="trunk of all networks, such as alexnet or vgg16")
    parser.add_argument("--size", type=int, default=512, help="longest side of Oxford's photos in pixels")
    parser.add_argument("--sketch-size", type=int, default=227, help="longest side of Flickr15k's photos in pixels")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the training of proposals")
    arguments = parser.parse_args()
    for folder in (TEACHING, OXFORD["photos"], SKETCHES["photos"]):
        if not folder.is_dir():
            print(f"no {folder}: systems are not compared")
            return
    arguments.work.mkdir(parents=True, exist_ok=True)
    with recorded("systems") as add:
        for system in systems(arguments.backbone, arguments.work, arguments.size, arguments.epochs):
            add(row(system, arguments.work, arguments.size, arguments.sketch_size))


def systems(backbone: str, work: Path, size: int, epochs: int) -> Iterator[System]:
    """Yields all systems, and first makes those network files that do not exist yet.

    Args:
        backbone: name of the trunk, such as "alexnet".
        work: folder of the network files.
        size: longest side in pixels of the photos that are used to learn the PCA, the proposals and the clusters.
        epochs: number of epochs in which the proposals are trained.
    """
    for pooling, title in (("gem", "GeM"), ("mac", "MAC"), ("rmac", "R-MAC, grid")):
        yield System(title, _made(work / f"{pooling}.keras", _builder(f"{backbone}_{pooling}")), {})
    grid = _made(work / "rmac-pca.keras", lambda path: _whitened(work / "rmac.keras", path, size))
    yield System("R-MAC, grid, PCA of regions", grid, {})
    proposing = _made(work / "proposing" / "model.keras", lambda path: _proposing(grid, path.parent, size, epochs))
    yield System("R-MAC, proposals, PCA of regions", proposing, {})
    netvlad = _made(work / "netvlad.keras", lambda path: _clustered(f"{backbone}_netvlad", path, size))
    yield System("NetVLAD", netvlad, {})
    edgemac = _made(work / "edgemac.keras", _builder(f"{backbone}_edgemac"))
    yield System("EdgeMAC", edgemac, {"edges": "sobel"})
    yield System("visual words", None, {"bow": True, "verify": 0})
    yield System("visual words, 100 verified", None, {"bow": True, "verify": 100})


def row(system: System, work: Path, size: int, sketch_size: int) -> dict[str, Any]:
    """Measures a system and returns its row of the table.

    Args:
        system: the system to measure.
        work: folder in which results are stored.
        size: longest side of Oxford's photos in pixels.
        sketch_size: longest side of Flickr15k's photos in pixels.
    """
    name = system.model.relative_to(work).parts[0].removesuffix(".keras") if system.model else "words"
    model = str(system.model) if system.model else None
    oxford = evaluate(model, output=work / f"{name}-oxford", size=size, **OXFORD, **system.options)
    sketches = evaluate(model, output=work / f"{name}-sketches", size=sketch_size, **SKETCHES, **system.options)
    scores = {setting: f"{100 * oxford['mean'][setting]['mAP']:.1f}" for setting in ("easy", "medium", "hard")}
    scores["sketches"] = f"{100 * sketches['mean']['all']['mAP']:.1f}"
    seconds = describing(system, size) if system.model else indexing(work / f"{name}-oxford", size)
    times = {"ms a photo": f"{1000 * seconds:.0f}", "ms a query": f"{oxford['milliseconds_per_query']:.1f}"}
    return {"system": system.title, **scores, **times, "bytes a photo": oxford["bytes_per_photo"]}


def describing(system: System, size: int) -> float:
    """Returns the seconds per photo to read and describe photos of Oxford, after all shapes are compiled."""
    reading = Reading(OXFORD["photos"], size, edges=system.options.get("edges", ""))
    way = together(describer(load_model(str(system.model))), reading, [])
    names = chosen(reading.folder, TIMED)
    way(names)
    started = time.perf_counter()
    way(names)
    return (time.perf_counter() - started) / len(names)


def indexing(words: Path, size: int) -> float:
    """Returns the seconds per photo to extract local features of Oxford's photos and to index them as visual words.

    Args:
        words: folder of the results of `evaluate`, whose vocabulary is used.
        size: longest side of the photos in pixels.
    """
    names = chosen(OXFORD["photos"], TIMED)
    vocabulary = next(words.glob("words-*/vocabulary-*.bin"))
    with TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(OXFORD["photos"], names, work)
        database = Database(work / "database.db")
        started = time.perf_counter()
        database.extract_features(work / "images", names, {"size": size, "features": 8192})
        with load_colmap().Database.open(database.path) as features:
            photos = [image.image_id for image in features.read_all_images()]
            build_index(features, photos, vocabulary, work / "index.bin")
        return (time.perf_counter() - started) / len(names)


def _made(path: Path, make: Callable[[Path], object]) -> Path:
    if not path.exists():
        make(path)
    return path


def _builder(name: str) -> Callable[[Path], object]:
    return lambda path: save_model(network(name), path)


def _whitened(model: Path, path: Path, size: int) -> None:
    whiten(str(model), TEACHING, path, method="regional-pca", size=size)


def _proposing(model: Path, run: Path, size: int, epochs: int) -> None:
    drawn = sample_photos(run.with_name("drawn"), buildings=16, size=size)
    train_proposals(drawn, photos=drawn, output=run, model=str(model), size=size, epochs=epochs, resume=run.exists())


def _clustered(name: str, path: Path, size: int) -> None:
    """Saves a NetVLAD network to `path`, whose clusters are initialised from local descriptors of other photos."""
    netvlad = network(name)
    initialize(netvlad, Reading(TEACHING, size), list_photos(TEACHING), "v1", seed=0)
    save_model(netvlad, path)


if __name__ == "__main__":
    main()
