"""The goldens of published networks: weights made from names and shapes, and the files in which people have them."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from tests.helpers.torch_files import Call, Global, save


class Goldens:
    """The goldens in a folder.

    Args:
        folder: the folder with made.py.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("made", folder / "made.py")
        assert spec is not None
        assert spec.loader is not None
        self.made: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.made)

    def state_dict(self, name: str) -> dict[str, np.ndarray]:
        return self.made.state_dict(name)

    def photos(self, name: str) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Pairs of a photo (1, H, W, 3) and of what the published code gives for it."""
        with np.load(self.folder / f"{name}.npz") as file:
            arrays = dict(file)
        found = []
        for number in range(sum(key.startswith("photo") for key in arrays)):
            photo = self.made.photo(*arrays[f"photo{number}"])[None].astype("float32")
            given = {key.removesuffix(str(number)): value for key, value in arrays.items() if key.endswith(str(number))}
            found.append((photo, given))
        return found


def write(folder: Path, state: dict[str, np.ndarray], form: str) -> Path:
    """Writes a state dict in one of the forms in which networks are published."""
    path = folder / f"network.{form.split()[0]}"
    if form == "safetensors":
        safetensors.numpy.save_file(state, path)
        return path
    if form == "ckpt":  # of Lightning: hyperparameters are objects of classes that are not here
        parameters = Call(Global("argparse", "Namespace"), (), {"lr": 1e-4})
        return save(path, {"epoch": 3, "state_dict": state, "hyper_parameters": parameters}, "zip")
    if form == "pth old":
        return save(path, {"state_dict": {f"module.{name}": array for name, array in state.items()}}, "old")
    return save(path, state, "zip")


FORMS = ("pth", "pth old", "safetensors", "ckpt")
