"""Photos and networks for the benchmarks.

Real photos and pretrained weights are used if they are in DATA, a folder beside the checkout. Otherwise photos are
synthetic and weights are random.
"""

import tempfile
from pathlib import Path
from typing import Any

import keras_retrieval
from pipelines.networks.files import save_model

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WEIGHTS: dict[str, dict[str, Any]] = {
    "vgg16": {"weights": DATA / "weights" / "vgg16_imagenet_torchvision_notop.h5", "normalization": "torch"},
    "alexnet": {"weights": DATA / "weights" / "alexnet_imagenet_torchvision_features.npz"},
}


def network(name: str, **options: Any) -> Any:
    """Builds a network by name, with the pretrained weights in WEIGHTS if their file exists, else with random weights.

    Args:
        name: name of the network, such as "vgg16_gem"; its backbone must be in WEIGHTS.
        **options: further arguments of `keras_retrieval.build`.
    """
    weights = WEIGHTS[name.split("_")[0]]
    there = Path(weights["weights"]).is_file()
    return keras_retrieval.build(name, **(weights if there else {"weights": None}), **options)


def network_file(given: Path | None, name: str, work: Path) -> Path:
    """Returns the path of a network file: `given`, or if this is None, `work`/model.keras, to which a network is saved.

    Args:
        given: path of a .keras file, or None.
        name: name of the network to build and save if `given` is None.
        work: folder in which the network is saved.
    """
    if given is None:
        given = work / "model.keras"
        save_model(network(name), given)
    return given


def photos(folder: str, count: int) -> tuple[Path, str]:
    """Returns a folder of photos and its label for tables.

    The folder is `DATA`/`folder` if it exists, else a temporary folder with about `count` synthetic photos.
    """
    if (DATA / folder).is_dir():
        return DATA / folder, folder
    from pipelines.samples.sample_photos import sample_photos

    made = Path(tempfile.mkdtemp()) / "photos"
    sample_photos(made, buildings=8, views=max(1, count // 8), size=1024)
    return made, "sample-photos at 1024 px"
