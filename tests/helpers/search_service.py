"""A small collection of photos, its index, and the network that made it as a served version."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from export.index_contract.contract import NeighbourIndex
from export.indexes.index import index
from export.indexes.open_index import open_index
from export.savedmodel import version
from export.savedmodel.export_saved_model import export_saved_model
from export.server.batching_parameters import BatchingParameters
from pipelines.descriptors.extract import extract
from pipelines.descriptors.folder import read_descriptors
from tests.helpers import small
from tests.helpers.serving_models import Client, save_toy, serving

SIZE, SCALES = 64, "1,0.7071"


STREET = "street 1/über & out#?.png"  # the largest photo: 90 x 70


@dataclass(frozen=True)
class SearchService:
    """Paths of a network, of photos, of their index, and of the base folder of the served model "small".

    names and rows (N, D) are the photos' names and descriptors from `extract`, in the same order.
    """

    network: Path
    photos: Path
    index: Path
    model: Path
    names: list[str]
    rows: np.ndarray


def make_search_service(folder: Path) -> SearchService:
    network, photos, descriptors = small.saved_network(folder), folder / "photos", folder / "descriptors"
    small.draw_folder(photos, 9)
    small.draw(photos / STREET, 70, 90, seed=9)
    extract(str(network), photos, descriptors, size=SIZE, scales=SCALES)
    shards, names, _ = read_descriptors(descriptors)
    index(descriptors, str(folder / "index"))
    model = folder / "models" / "small"
    with pytest.MonkeyPatch.context() as patch:  # without the requests that each server of it would run as it starts
        patch.setattr(version, "write_warm_up", lambda *_: None)
        export_saved_model(str(network), model, size=SIZE, scales=SCALES)
    return SearchService(network, photos, folder / "index", model, names, np.concatenate(shards))


@dataclass(frozen=True)
class SearchServer:
    """A running server: its client, its index, and its folder of photos, which tests may change."""

    client: Client
    index: NeighbourIndex
    photos: Path


@contextmanager
def serving_search(service: SearchService, folder: Path) -> Iterator[SearchServer]:
    photos, index = folder / "photos", open_index(service.index)
    shutil.copytree(service.photos, photos)
    save_toy(folder / "toy" / "1")
    models = {"toy": folder / "toy", "small": service.model}
    with serving(models, index=index, photos=photos, batching=BatchingParameters()) as client:
        yield SearchServer(client, index, photos)
    index.close()
