"""Collections of small photos whose network is a function of NumPy, so that their tests need no TensorFlow."""

import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from export.collection import generation
from export.collection.collection import Collection
from export.collection.network import LoadedNetwork

OLD = 1_600_000_000_123_456_789  # ns; with a fraction of a second, as file systems have


def mean_colours(images):
    """Describes photos by the colours of their four quarters; a black photo has no descriptor."""
    batch, height, width, _ = images.shape
    halves = (
        images.astype("float32").reshape(batch, 2, height // 2, 2, width // 2, 3)
        if height % 2 == width % 2 == 0
        else None
    )
    rows = images.astype("float32").mean((1, 2)) if halves is None else halves.mean((2, 4)).reshape(batch, -1)
    rows = np.pad(rows, [(0, 0), (0, 12 - rows.shape[1])])
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def use_fake_network(patch, describe=mean_colours, log=None):
    """Makes collections describe photos with a function; `log` receives the number of photos of each call."""

    def load(model, size, bfloat16, runtime="auto"):
        def noted(images):
            if log is not None:
                log.append(len(images))
            return describe(images)

        return LoadedNetwork(noted, 1, size)

    patch.setattr(generation, "load_network", load)


def write_photo(path, seed=0, size=(16, 12), when=None):
    """Writes a photo of random quarters; `when` is its time in ns, by default one that no other photo has."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype("uint8")
    Image.fromarray(quarters.repeat(size[1] // 2, 0).repeat(size[0] // 2, 1)).save(path)
    when = OLD + seed * 1_000_001 if when is None else when
    os.utime(path, ns=(when, when))
    return path


def write_photos(folder, count=6, first=0):
    """Writes photos 0.png, 1.png .. in sub-folders a and b; returns their names."""
    names = [f"{'ab'[number % 2]}/{number}.png" for number in range(first, first + count)]
    for number, name in zip(range(first, first + count), names, strict=True):
        write_photo(folder / name, number)
    return names


def network_file(folder, content=b"a network"):
    """Writes a file that stands for a network: its content is its identity."""
    path = folder / "network.keras"
    path.write_bytes(content)
    return path


def opened(folder, **options):
    """Opens the collection of folder/photos with its state in folder/state."""
    given = {"model": network_file(folder)} if not (folder / "state").exists() else {}
    settings = {"state": folder / "state", "precision": "float32", "size": 16} | given | options
    return Collection(folder / "photos", **settings)


def until(condition, seconds=20.0):
    """Waits until a condition holds; fails after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
