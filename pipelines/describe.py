"""From pixels to descriptors: one compiled function for photos of any size, all scales inside."""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from .edges import MARGIN, edge_map
from .folders import whole_path
from .images import MAX_PIXELS, Crop, PhotoError, photo_size, read_photo
from .onnx_network import OnnxNetwork

BATCH_PIXELS = 2**21  # a batch of the network: 8 photos of 512 x 512; more is not faster and takes memory
FILES = (".keras", ".onnx")  # what networks are read from
READ_AHEAD = 3  # batches in memory: one in the network, two being read

Describe = Callable[[np.ndarray], np.ndarray]
Shape = tuple[int, int]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Reading:
    """How photos are read for a network.

    Attributes:
        folder: of the photos.
        size: the longest side after resizing, in pixels; None for no resizing.
        exif: turn photos as EXIF says.
        max_pixels: the most that a photo may declare.
        smallest: what the network needs on each side; a smaller photo gets its edge pixels repeated up to it.
        edges: the kind of edge maps that are read instead of photos, see `edges.edge_map`; "" for photos.
    """

    folder: Path
    size: int | None
    exif: bool = True
    max_pixels: int = MAX_PIXELS
    smallest: int = 1
    edges: str = ""

    def shape(self, name: str, crop: Crop | None = None) -> Shape:
        """(height, width) of what `read` returns, from the photo's header."""
        margins = 2 * MARGIN if self.edges else 0
        height, width = (side + margins for side in photo_size(self.folder / name, crop=crop, **self._options()))
        return max(height, self.smallest), max(width, self.smallest)

    def read(self, name: str, crop: Crop | None = None) -> np.ndarray:
        """The photo's pixels, (height, width, 3) uint8."""
        pixels = read_photo(self.folder / name, crop=crop, **self._options())
        if self.edges:
            pixels = edge_map(self.edges, pixels, self.folder, name, crop)
        missing = [(0, max(0, self.smallest - side)) for side in pixels.shape[:2]]
        return np.pad(pixels, [*missing, (0, 0)], mode="edge") if any(after for _, after in missing) else pixels

    def longest(self) -> int:
        """The most pixels on a side of what `read` returns.

        Raises:
            ValueError: no size is set.
        """
        if self.size is None:
            raise ValueError("photos that are not resized have any size")
        return max(self.size + (2 * MARGIN if self.edges else 0), self.smallest)

    def _options(self) -> dict[str, Any]:
        return {"size": self.size, "exif": self.exif, "max_pixels": self.max_pixels}


@dataclass(frozen=True)
class Described(Generic[Key]):
    """What came of a batch of photos.

    Attributes:
        keys: those that have a descriptor.
        rows: (n, D) float32, in the order of `keys`.
        left_out: the reason for each of the others.
        seconds: that the network took.
    """

    keys: list[Key]
    rows: np.ndarray
    left_out: dict[Key, str]
    seconds: float


def load_model(model: str | Path) -> Any:
    """Loads a network from a .keras or .onnx file, or builds it by name with ImageNet weights.

    Returns:
        A keras.Model; of an .onnx file an OnnxNetwork, for which neither Keras nor TensorFlow is imported.

    Raises:
        ValueError: no file of that name and no known network either, or the file cannot be loaded.
        ConnectionError: the ImageNet weights of a name could not be downloaded.
    """
    path = Path(model)
    named = path.suffix not in FILES
    if named and os.sep in str(model):
        raise ValueError(f"{model}: a network is a .keras file, an .onnx file or a name such as vgg16_gem")
    if not named and not path.is_file():  # told before Keras takes seconds to import
        maker = "build vgg16_gem" if path.suffix == ".keras" else "export-onnx model.keras"
        raise ValueError(f"no network at {path}: `keras-retrieval {maker} {path}` makes one")
    if path.suffix == ".onnx":
        return OnnxNetwork(path)
    import keras_retrieval

    return keras_retrieval.build(str(model)) if named else keras_retrieval.load(path)


def save_model(model: Any, path: Path) -> None:
    """Writes a network so that its name only ever stands for a whole file: temporary name, sync, rename.

    Args:
        model: a keras.Model.
        path: a .keras file; it is replaced, and its folder is made where it is missing.

    Raises:
        OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_path(path) as temporary:
        model.save(temporary)


def model_identity(model: str | Path) -> dict[str, str]:
    """What tells a network from another in a manifest: its path and checksum, or its name."""
    path = Path(model)
    if path.suffix not in FILES or not path.is_file():
        return {"name": str(model)}
    with path.open("rb") as file:
        return {"path": str(path.resolve()), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


ANTIALIAS_HELP = "Antialias the scales below 1; published PyTorch networks were measured without."
MIRROR_HELP = "Join mirrored photos in the descriptor, too, at every scale."


def parse_scales(scales: str) -> tuple[float, ...]:
    """Reads "1,0.7071,0.5".

    Raises:
        ValueError: not numbers above 0 and up to 4 with commas between them.
    """
    try:
        found = tuple(float(scale) for scale in scales.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < scale <= 4 for scale in found):
        raise ValueError(
            f"--scales {scales}: give factors above 0 and up to 4 with commas between, such as 1,0.7071,0.5"
        )
    return found


def takes_edges(model: Any) -> bool:
    """Whether a keras.Model has a layer that asks for edge maps, or an OnnxNetwork was made of one that has."""
    if isinstance(model, OnnxNetwork):
        return model.takes_edges
    return any(layer.__class__.__name__ == "EdgeStrength" for layer in model.layers)


def require_edges(model: Any, edges: str) -> None:
    """Refuses photos for a network that takes edge maps.

    Raises:
        ValueError: `edges` is empty, and the network was made for edge maps.
    """
    if not edges and takes_edges(model):
        raise ValueError(
            f"{model.name} takes edge maps, not photos: give --edges sobel or another kind; a step without --edges "
            "takes another network"
        )


def describer(
    model: Any,
    scales: tuple[float, ...] = (1.0,),
    bfloat16: bool = False,
    antialias: bool = True,
    mirror: bool = False,
) -> Describe:
    """Compiles a network into a function from photos of one size to descriptors.

    It is traced once, for a batch and size that are unknown, so that a million sizes cost no more than one.

    Args:
        model: a keras.Model from `keras_retrieval.build`, or an OnnxNetwork, which takes none of the options.
        scales: joined inside the same graph.
        bfloat16: run the trunk in bfloat16. This changes the model that is given, for good.
        antialias: how the scales below 1 are made, see `keras_retrieval.layers.Rescaling`.
        mirror: join mirrored photos, too.

    Returns:
        A function (B, H, W, 3) uint8 -> (B, D) float32.

    Raises:
        ValueError: Keras runs on another backend than TensorFlow, or `bfloat16` with a network that has no trunk,
            or scales, `bfloat16` or `mirror` with an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16, mirror)
        return model.describe
    import keras
    import tensorflow as tf

    import keras_retrieval
    from keras_retrieval.precision import set_trunk_precision

    if keras.backend.backend() != "tensorflow":
        raise ValueError(f"photos are described on TensorFlow: KERAS_BACKEND is {keras.backend.backend()}")
    if bfloat16:
        set_trunk_precision(model, "mixed_bfloat16")
    network = keras_retrieval.multi_scale(model, scales, antialias=antialias, mirror=mirror)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def describe(images: Any) -> Any:
        return network(images, training=False)

    return lambda images: describe(images).numpy()


def describe_photos(
    describe: Describe, photos: Sequence[tuple[Shape, Key]], read: Callable[[Key], np.ndarray]
) -> Iterator[Described[Key]]:
    """Describes photos batch by batch while threads read the next ones.

    Args:
        describe: from `describer`.
        photos: (shape, key) of each photo, those of one shape side by side.
        read: the pixels of a key, of that shape; raises PhotoError.

    Yields:
        What came of each batch, in order.
    """
    upcoming = _batches(photos)
    reading: deque[tuple[Shape, dict[Key, Future[np.ndarray]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while True:
            for shape, batch in islice(upcoming, READ_AHEAD - len(reading)):
                reading.append((shape, {key: pool.submit(read, key) for key in batch}))
            if not reading:
                return
            yield _described(describe, *reading.popleft())


def _batches(photos: Sequence[tuple[Shape, Key]]) -> Iterator[tuple[Shape, list[Key]]]:
    for shape, group in groupby(photos, key=lambda photo: photo[0]):
        most = max(1, BATCH_PIXELS // (shape[0] * shape[1]))
        while batch := [key for _, key in islice(group, most)]:
            yield shape, batch


def _described(describe: Describe, shape: Shape, batch: dict[Key, Future[np.ndarray]]) -> Described[Key]:
    pixels, left_out = _pixels(shape, batch)
    if not pixels:
        return Described([], np.zeros((0, 0), "float32"), left_out, 0.0)
    started = time.monotonic()
    rows = describe(np.stack(list(pixels.values())))
    seconds = time.monotonic() - started
    usable = np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)
    left_out |= {
        key: "the network's descriptor of it is zero or not finite"
        for key, row_is_usable in zip(pixels, usable.tolist(), strict=True)
        if not row_is_usable
    }
    return Described([key for key in pixels if key not in left_out], rows[usable], left_out, seconds)


def _pixels(shape: Shape, batch: dict[Key, Future[np.ndarray]]) -> tuple[dict[Key, np.ndarray], dict[Key, str]]:
    """Waits for the photos of a batch: their pixels, and the reasons of those that could not be read."""
    pixels: dict[Key, np.ndarray] = {}
    left_out: dict[Key, str] = {}
    for key, future in batch.items():
        try:
            photo = future.result()
        except PhotoError as error:
            left_out[key] = error.reason
            continue
        if photo.shape[:2] == shape:
            pixels[key] = photo
        else:
            left_out[key] = "it has changed since its size was read"
    return pixels, left_out


def smallest_side(model: Any, scales: tuple[float, ...] = (1.0,)) -> int:
    """The least number of pixels on a side that leaves the trunk a feature map at every scale.

    Raises:
        ValueError: the network takes no photo, since its input has a fixed size; or scales with an OnnxNetwork.
    """
    if isinstance(model, OnnxNetwork):
        model.check(scales, bfloat16=False)
        return model.smallest
    import keras

    trunk = next((layer for layer in model.layers if isinstance(layer, keras.Model)), model)
    side = next((side for side in range(1, 1025) if _has_feature_map(trunk, side)), None)
    if side is None or any(model.input_shape[1:3]):
        raise ValueError(f"{model.name} takes {model.input_shape}, not photos of any size (B, H, W, 3)")
    # A scaled side is rounded down, in float32: one pixel more than the quotient is sure to be enough.
    return side if min(scales) == 1 else int(np.ceil(side / min(scales))) + 1


def _has_feature_map(trunk: Any, side: int) -> bool:
    channels = trunk.input_shape[-1]
    try:
        return all(size is None or size > 0 for size in trunk.compute_output_shape((1, side, side, channels))[1:])
    except ValueError:
        return False
