"""A network that describes the photos of a collection and queries, which do not wait for whole batches of photos."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from keras_retrieval.pipelines.descriptors.describer import NO_DESCRIPTOR, DescribeFn, Runtime, describer
from keras_retrieval.pipelines.networks.files import load_model, require_edges, smallest_side
from keras_retrieval.pipelines.photos.query_box import Box
from keras_retrieval.pipelines.photos.reader import MAX_PIXELS, PhotoError, read_photo
from keras_retrieval.pipelines.photos.reading import Shape
from keras_retrieval.pipelines.runtimes.options import RUNTIME
from keras_retrieval.pipelines.runtimes.switching import SwitchingDescriber

PART_PIXELS = 2**19  # pixels that the network describes before a query gets its turn, such as 5 photos of 320 x 320


class Turns:
    """Gives the network to one thread at a time, and to queries first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy, self._queries = False, 0

    @contextmanager
    def turn(self, *, query: bool) -> Iterator[None]:
        """Waits for a turn and holds it within a `with` statement.

        Args:
            query: whether somebody waits for the result: queries go before the photos of the collection.
        """
        with self._changed:
            self._queries += query
            while self._busy or (self._queries and not query):
                self._changed.wait()
            self._queries -= query
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


class LoadedNetwork:
    """A network in memory.

    Args:
        describe: the function that describes a batch of photos, from `describer`.
        smallest: the smallest height and width of a photo in pixels.
        size: the longest side with which photos enter the network, in pixels.

    Attributes:
        smallest: the smallest height and width of a photo in pixels.
    """

    def __init__(self, describe: DescribeFn, smallest: int, size: int) -> None:
        self._switching = describe if isinstance(describe, SwitchingDescriber) else None
        self._describe = describe if self._switching is None else self._switching.describe
        self._turns = Turns()
        self.smallest, self._size = smallest, size

    def expect(self, shapes: Iterable[Shape], times: int = 1) -> None:
        """Says which photos of the collection will be described, so that a faster runtime is taken if it pays.

        Args:
            shapes: (height, width) of each photo in pixels, about.
            times: number of photos of each of the shapes.
        """
        if self._switching is not None:
            self._switching.expect(shapes, times)

    def batch(self, images: np.ndarray) -> np.ndarray:
        """Describes photos of the collection, in parts between which queries get their turn.

        Args:
            images: photos, (B, H, W, 3) uint8.

        Returns:
            Their descriptors, (B, D) float32.
        """
        count = max(1, PART_PIXELS // (images.shape[1] * images.shape[2]))
        parts = []
        for start in range(0, len(images), count):
            with self._turns.turn(query=False):
                parts.append(self._describe(images[start : start + count]))
            if self._switching is not None:
                self._switching.consider()  # queries have their turns while a network is converted
        return np.concatenate(parts)

    def query(self, pixels: np.ndarray) -> np.ndarray:
        """Describes a query.

        Args:
            pixels: the photo as it enters the network, (H, W, 3) uint8.

        Returns:
            The descriptor, (D,) float32.

        Raises:
            PhotoError: the photo has no descriptor.
        """
        missing = [(0, max(0, self.smallest - side)) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else pixels
        with self._turns.turn(query=True):
            row = self._describe(pixels[None])[0]
        if not (np.isfinite(row).all() and row.any()):
            raise PhotoError("<bytes>", NO_DESCRIPTOR)
        return row

    def query_file(self, file: bytes, box: Box | None = None, *, accept_truncated: bool = False) -> np.ndarray:
        """Describes a query from the content of its file.

        Args:
            file: the content of a photo file.
            box: the part to describe, (left, top, right, bottom) in pixels of the upright photo; None for all of it.
            accept_truncated: whether a JPEG that lacks its last bytes is read.

        Raises:
            PhotoError: the photo cannot be read, the box is outside of it, or it has no descriptor.
        """
        pixels = read_photo(file, size=self._size, crop=box, max_pixels=MAX_PIXELS, accept_truncated=accept_truncated)
        return self.query(pixels)


def load_network(model: str, size: int, bfloat16: bool, runtime: str = RUNTIME) -> LoadedNetwork:
    """Loads a network and compiles it.

    Args:
        model: path of a .keras or .onnx file, or a name such as "vgg16_gem".
        size: the longest side with which photos enter the network, in pixels.
        bfloat16: whether its trunk runs in bfloat16.
        runtime: the value of the option `--runtime`.

    Raises:
        RetrievalError: as for `load_model`; or the network takes edge maps instead of photos.
    """
    network: Any = load_model(model)
    require_edges(network, "")
    describe = describer(network, bfloat16=bfloat16, runtime=Runtime(runtime, model))
    return LoadedNetwork(describe, smallest_side(network), size)
