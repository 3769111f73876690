"""A search page with any number of synthetic photos, which have folders, times, positions, columns and stacks.

    python -m bench.made_photos --count 100000 --port 8600

Serves the page until Ctrl-C. The photos are links to a few hundred drawn pictures in a temporary folder. Descriptors
are random points around one centre per object, so that searches, stacks and filters have something to find.
"""

import argparse
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from export.folder_index.folder_index import FolderIndex
from export.http.bodies import BodyLimits
from export.http.http_server import HttpServer
from export.http.messages import NOT_FOUND, Request, Response
from export.indexes.index import index
from export.search_page.catalogue import Catalogue
from export.search_page.routes import SearchPage
from export.search_page.source import Box, Status
from keras_retrieval.ranking.rows import l2_normalize
from pipelines.descriptors import folder as described
from pipelines.files.durable import partial_of, seal, write_array, write_file, write_names

PICTURES, SIDES, DIMENSIONS = 240, (640, 480), 64
EVENTS = 400  # photos of an event have one folder, one place and one week
CITIES = ((48.86, 2.35), (51.75, -1.25), (35.68, 139.69), (-33.87, 151.21), (40.71, -74.01), (-17.71, 178.06))
FACTS = {"model": {"name": "made"}, "size": 128, "scales": [1.0], "antialias": True, "bfloat16": False, "exif": True}


class MadePhotos:
    """Implements `PhotoSource` with synthetic photos.

    Args:
        work: empty folder for the photos and their index.
        count: number of photos.

    Attributes:
        folder: folder of the photos.
    """

    def __init__(self, work: Path, count: int) -> None:
        chance = np.random.default_rng(0)
        self.folder = work / "photos"
        names, columns, objects = _facts(chance, count)
        _write_photos(self.folder, work / "pictures", names, objects)
        rows = _rows(chance, objects)
        self._index = _made_index(work, self.folder, names, rows, columns)
        self._catalogue = Catalogue(self._index.names, self._index.columns(), version="made")

    def index(self) -> FolderIndex:
        """Returns the index."""
        return self._index

    def catalogue(self) -> Catalogue:
        """Returns the photos."""
        return self._catalogue

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        """Returns a descriptor that depends on the bytes of the file and on the box only."""
        seed = [*np.frombuffer(file[-4096:], np.uint8).tolist(), *(int(abs(side)) for side in box or ())]
        return l2_normalize(np.random.default_rng(seed).normal(size=(1, DIMENSIONS)).astype(np.float32))[0]

    def status(self) -> Status:
        """Returns the status of a collection whose photos are all described."""
        count = len(self._catalogue)
        return Status(photos=count, searchable=count, done=count, total=count, network="made", size=128)

    def left_out(self) -> Mapping[str, str]:
        """Returns two files that were left out."""
        return {"broken/truncated.jpg": "truncated: the file ends too early", "notes.txt": "not a photo"}


@contextmanager
def made_page(count: int, port: int = 0) -> Iterator[HttpServer]:
    """Serves the page of synthetic photos at 127.0.0.1 until the context exits.

    Args:
        count: number of photos.
        port: port to listen on; 0 for any free one.
    """
    with TemporaryDirectory() as folder:
        page = SearchPage(MadePhotos(Path(folder), count), title="Made photos")

        def answer(request: Request) -> Response:
            return page.answer(request) or NOT_FOUND

        server = HttpServer(
            answer, host="127.0.0.1", port=port, threads=32, most_requests=256, limits=BodyLimits(2**27)
        )
        yield server
        server.stop(1.0)
        page.close()


def _facts(chance: np.random.Generator, count: int) -> tuple[list[str], dict[str, list[str]], np.ndarray]:
    """Names, columns, and the object that each photo shows, (count,)."""
    events = np.sort(chance.integers(0, EVENTS, count))
    starts = chance.integers(0, 10 * 365, EVENTS)
    cities = chance.integers(0, len(CITIES), EVENTS)
    objects = events * 40 + np.minimum(chance.geometric(0.08, count), 40) - 1
    names, times, latitudes, longitudes = [], [], [], []
    for number, event in enumerate(events.tolist()):
        moment = datetime(2014, 1, 1) + timedelta(days=int(starts[event]), seconds=int(chance.integers(0, 7 * 86_400)))
        names.append(f"{moment.year}/event {event:03}/IMG_{number}.jpg")
        located, timed = chance.random() < 0.7, chance.random() < 0.95
        latitude, longitude = np.array(CITIES[cities[event]]) + chance.normal(0, 0.05, 2)
        times.append(moment.isoformat() if timed else "")
        latitudes.append(f"{latitude:.6f}" if located else "")
        longitudes.append(f"{longitude:.6f}" if located else "")
    cameras = chance.choice(["Canon EOS 80D", "iPhone 12", "Pixel 7", ""], count).tolist()
    columns = {"time": times, "latitude": latitudes, "longitude": longitudes, "camera": cameras}
    return names, columns, objects


def _write_photos(folder: Path, pictures: Path, names: list[str], objects: np.ndarray) -> None:
    pictures.mkdir(parents=True)
    files = [pictures / f"{number}.jpg" for number in range(PICTURES)]
    for number, file in enumerate(files):
        colour = tuple(np.random.default_rng(number).integers(60, 230, 3).tolist())
        picture = Image.new("RGB", SIDES if number % 3 else SIDES[::-1], colour)
        draw = ImageDraw.Draw(picture)
        for step in range(0, picture.width, 40):
            draw.line((step, 0, picture.width - step, picture.height), fill=(255, 255, 255), width=2)
        draw.text((20, 20), str(number), fill=(0, 0, 0), font_size=160)
        picture.save(file, quality=70)
    for parent in {Path(name).parent for name in names}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for name, number in zip(names, objects.tolist(), strict=True):
        os.link(files[number % PICTURES], folder / name)


def _rows(chance: np.random.Generator, objects: np.ndarray) -> np.ndarray:
    centres = chance.normal(size=(int(objects.max(initial=0)) + 1, DIMENSIONS))
    noise = chance.normal(size=(len(objects), DIMENSIONS)) * chance.choice([0.02, 0.4, 1.0], (len(objects), 1))
    return l2_normalize((centres[objects] + noise).astype(np.float32))


def _made_index(
    work: Path, photos: Path, names: list[str], rows: np.ndarray, columns: Mapping[str, list[str]]
) -> FolderIndex:
    partial = partial_of(work / "descriptors")
    partial.mkdir(parents=True)
    write_array(partial / "descriptors-00000.npy", rows)
    write_names(partial / "names.txt", names)
    write_file(partial / "left_out.json", "{}")
    facts: dict[str, Any] = {
        **FACTS,
        "photos": str(photos),
        "count": len(rows),
        "dimensions": DIMENSIONS,
        "max_pixels": 2**27,
    }
    descriptors = seal(
        partial, work / "descriptors", kind=described.KIND, version=described.VERSION, fingerprint="made", **facts
    )
    table = work / "columns.csv"
    lines = [",".join(["photo", *columns])]
    lines += [",".join(row) for row in zip(names, *columns.values(), strict=True)]
    write_file(table, "\n".join(lines))
    return FolderIndex(Path(index(descriptors, str(work / "index"), exact=True, columns=table)))


def main() -> None:
    """Serves the page until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of photos")
    parser.add_argument("--port", type=int, default=8600, help="port to listen on; 0 for any free one")
    options = parser.parse_args()
    with made_page(options.count, options.port) as server:
        print(f"page: http://127.0.0.1:{server.port}/", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
