"""A describer that begins with TensorFlow, and takes a faster runtime where the photos are enough for it to pay.

The rule: the network is converted when the photos that are left would take TensorFlow at least `PAYS` times as long as
the conversion and the measurement are expected to take. The conversion is estimated from the time of TensorFlow's own
first batch, in which the network is traced as it is for a conversion; the measurement, of few photos, from TensorFlow's
speed. A runtime that was the fastest in an earlier measurement on this machine is taken where it saves more than
loading it costs.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import MissingExtraError, first_line

from ..networks.errors import NetworkError
from ..networks.onnx_network import require_sides
from ..networks.precision import FLOAT32_ONLY
from .check import TOLERANCE, check_batches, check_equal, drawn
from .converted_file import ConvertedFile
from .measured import keep, recall, size_class, this_machine
from .options import CONVERTERS, PACKAGES, TENSORFLOW, named_runtime
from .sessions import Describe, open_network

PAYS = 10
TRACES = 10.0
"""Expected time of a conversion and its check, as a multiple of TensorFlow's first batch."""
LEAST_SECONDS = 5.0
"""The least expected time of a conversion in seconds."""
LOAD_SECONDS = 8.0
"""Expected time to load a converted network and to check it, in seconds."""
FASTER = 0.95
"""Another runtime is taken if it takes at most this share of TensorFlow's time, so that noise does not decide."""

LARGEST = 1_800_000_000
"""Bytes of weights above which a network is not converted: an .onnx file has at most 2 GB."""

MEASURED_SECONDS = 0.5
"""The batch that is measured has as many photos as TensorFlow describes in this time, and at least one."""

_ROUNDS = 3
_ANY_SIZE = "photos of any size"
_MANY_PIXELS = 2**24  # 160 photos of 320 px: below it is not worth a look into what was remembered
_SAMPLE = 1.0  # seconds that TensorFlow runs before its speed is believed

Shape = tuple[int, int]

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class Convertible:
    """What is needed to convert a network.

    Attributes:
        model: path of the network's file, or its name.
        name: the network's name, for error messages.
        form: scales and such; serialisable as JSON.
        smallest: shortest side in pixels that the network can describe.
        bfloat16: whether descriptors are computed in bfloat16.
        bytes: size of the weights in bytes.
        sha256: returns the SHA-256 of the network.
        convert: writes the network as an .onnx file in float32.
        exact: returns a function that describes photos with Keras in float32.
    """

    model: str | Path
    name: str
    form: Any
    smallest: int
    bfloat16: bool
    bytes: int
    sha256: Callable[[], str]
    convert: Callable[[Path], None]
    exact: Callable[[], Describe]


class SwitchingDescriber:
    """A function that maps photos, (B, H, W, 3) uint8, to descriptors, (B, D) float32, by the fastest runtime.

    Args:
        tensorflow: the function that computes with TensorFlow.
        network: what is needed to convert the network.
        runtime: the value of the option `--runtime`.

    Attributes:
        runtime: the runtime that computes now.

    Raises:
        ArgumentError: the environment variable KERAS_RETRIEVAL_RUNTIME names no runtime.
        MissingExtraError: the runtime that it names is not installed.
    """

    def __init__(self, tensorflow: Describe, network: Convertible, runtime: str) -> None:
        self.runtime = TENSORFLOW
        self._describe = self._tensorflow = tensorflow
        self._network, self._expected = network, Counter[Shape]()
        self._first, self._calls, self._pixels, self._seconds, self._largest = 0.0, 0, 0, 0.0, 0
        self._left, self._decided, self._told = 0, False, ""
        self._place: ConvertedFile | None = None
        asked = named_runtime(runtime)
        if asked == TENSORFLOW:
            self._stay("as asked for")
        elif asked != "auto":
            self._take(asked, "as asked for")
        elif reason := _no_choice(network):
            self._stay(reason)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Describes a batch of photos, and then considers another runtime."""
        rows = self.describe(images)
        self.consider()
        return rows

    def expect(self, shapes: Iterable[Shape], times: int = 1) -> None:
        """Says which photos will be described, so that another runtime is taken only if it pays.

        Args:
            shapes: (height, width) of each photo in pixels.
            times: number of photos of each of the shapes, such as the number of crops of a photo.
        """
        for shape, count in Counter(shapes).items():
            self._expected[shape] += times * count
            self._left += times * count * shape[0] * shape[1]
        if not self._decided and (known := self._known()) is not None:
            self._by_memory(known)

    def describe(self, images: np.ndarray) -> np.ndarray:
        """Describes a batch of photos, with the runtime that has been taken."""
        require_sides(images, self._network.smallest, self._network.name)
        started = time.perf_counter()
        rows = self._describe(images)
        seconds, shape = time.perf_counter() - started, images.shape[1:3]
        pixels = len(images) * shape[0] * shape[1]
        self._left = max(0, self._left - pixels)
        self._largest = max(self._largest, pixels)
        if self._calls:
            self._pixels, self._seconds = self._pixels + pixels, self._seconds + seconds
        else:
            self._first = seconds
        self._calls += 1
        return rows

    def consider(self) -> None:
        """Converts the network and takes another runtime if that pays for the photos that are left.

        Must not be called by two threads at a time; photos may be described meanwhile.
        """
        if self._decided:
            return
        pixels = self._left
        if not pixels and not (self._pixels and self._expected):
            self._say(log.info, TENSORFLOW, "too few photos for another runtime to pay")
            return
        if not self._pixels or (self._seconds < _SAMPLE and pixels):
            return
        seconds, cost = pixels * self._seconds / self._pixels, self._cost()
        if seconds >= PAYS * cost:
            if (known := self._known()) is None:
                self._measure()
            else:
                self._by_memory(known)
        else:
            enough = f"{PAYS * cost:,.0f} s of TensorFlow pay for converting the network"
            self._say(log.info, TENSORFLOW, f"{enough}, and the photos need {seconds:,.0f} s")

    def _cost(self) -> float:
        """The seconds that a conversion and a measurement are expected to take."""
        conversion = max(LEAST_SECONDS, TRACES * (self._first - self._seconds / (self._calls - 1)))
        height, width, count = self._sample()
        runs = (1 + _ROUNDS) * (1 + len(PACKAGES))
        return conversion + runs * count * height * width * self._seconds / self._pixels

    def _shape(self) -> Shape:
        """The height and width to which most pixels belong."""
        pixels = {shape: shape[0] * shape[1] * count for shape, count in self._expected.items()}
        return max(pixels, key=pixels.__getitem__)

    def _sample(self) -> tuple[int, int, int]:
        """The height, width and number of the photos on which runtimes are measured."""
        height, width = self._shape()
        pixels = min(self._largest, MEASURED_SECONDS * self._pixels / max(self._seconds, 1e-9))
        return height, width, max(1, min(int(pixels) // (height * width), self._expected[height, width]))

    @property
    def _converted(self) -> ConvertedFile:
        if self._place is None:
            self._place = ConvertedFile(self._network.model, self._network.sha256(), self._network.form)
        return self._place

    def _key(self, size: str) -> str:
        precision = "bfloat16" if self._network.bfloat16 else "float32"
        return f"{this_machine()}; {self._converted.key}; {precision}; {size}"

    def _known(self) -> dict[str, Any] | None:
        """What was remembered of this network and these photos; None for a few photos, without a look."""
        if self._left < _MANY_PIXELS:
            return None
        return recall(self._key(_ANY_SIZE)) or recall(self._key(size_class(*self._shape())))

    def _by_memory(self, known: dict[str, Any]) -> None:
        if "failed" in known:
            self._stay(f"{known['failed']}, as remembered")
            return
        best, text = _fastest(known["seconds"])
        if best == TENSORFLOW:
            self._stay(f"measured earlier: {text}")
            return
        saved = (known["seconds"][TENSORFLOW] - known["seconds"][best]) * self._left / 1e6
        if saved >= (LOAD_SECONDS if self._converted.found() else max(LOAD_SECONDS, known["cost"])):
            self._take(best, f"measured earlier: {text}")

    def _measure(self) -> None:
        """Converts the network, measures all runtimes on drawn photos of the sizes that are left, and takes one."""
        height, width, count = self._sample()
        started = time.perf_counter()
        log.info("runtime: the network is converted once, to measure which runtime is the fastest")
        names = [name for name in PACKAGES if _can(name, self._network)]
        try:
            found = self._loaded(names)
            images = drawn(count, height, width)
            seconds = self._seconds_of(found, images)
        except Exception as error:  # TensorFlow, tf2onnx and the runtimes raise their own errors
            reason = f"the network cannot be converted: {first_line(error)}"
            keep(self._key(_ANY_SIZE), {"failed": reason})
            self._stay(reason)
            return
        megapixels = images[..., 0].size / 1e6
        entry = {name: float(f"{value / megapixels:.4g}") for name, value in seconds.items()}
        keep(self._key(size_class(height, width)), {"seconds": entry, "cost": round(time.perf_counter() - started, 1)})
        best, text = _fastest(entry)
        if best != TENSORFLOW:
            self._describe, self.runtime = found[best], best
        self._decided = True
        self._say(log.info, best, f"measured on {count} x {width} x {height} px: {text}")

    @contextmanager
    def _file(self) -> Iterator[Path]:
        """The converted network, which is made unless it is kept; a temporary one is removed after it was loaded."""
        path = self._converted.found() or self._converted.write(self._network.convert)
        try:
            yield path
        finally:
            if self._converted.is_temporary(path):
                self._converted.discard(path)

    def _loaded(self, names: Sequence[str]) -> dict[str, Describe]:
        """Loads and checks the network in several runtimes; those that fail are left out, unless all do."""
        found: dict[str, Describe] = {}
        errors: list[Exception] = []
        with self._file() as path:
            for name in names:
                try:
                    found[name] = self._checked(name, path)
                except Exception as error:  # each runtime raises its own errors
                    log.debug("runtime %s: %s", name, error)
                    errors.append(error)
        if not found:
            raise errors[0]
        return found

    def _checked(self, name: str, path: Path) -> Describe:
        describe = open_network(name, path, self._network.bfloat16)
        try:
            check_equal(describe, self._exact(), check_batches(self._network.smallest), self._network.bfloat16)
        except NetworkError as error:
            raise NetworkError(f"{name} gives {error}") from error
        return describe

    def _exact(self) -> Describe:
        """Keras in float32."""
        return self._network.exact() if self._network.bfloat16 else self._tensorflow

    def _seconds_of(self, found: dict[str, Describe], images: np.ndarray) -> dict[str, float]:
        """The least seconds of each runtime for a batch, measured in turn; a runtime with other rows is left out."""
        seconds, functions = dict[str, float](), {TENSORFLOW: self._tensorflow, **found}
        expected = self._tensorflow(images)
        for name, function in found.items():
            rows = function(images)  # makes the kernels for this size
            if not self._network.bfloat16 and not np.abs(rows - expected).max() <= TOLERANCE:
                functions.pop(name)
        for _ in range(_ROUNDS):
            for name, function in functions.items():
                started = time.perf_counter()
                function(images)
                seconds[name] = min(seconds.get(name, np.inf), time.perf_counter() - started)
        return seconds

    def _take(self, runtime: str, why: str) -> None:
        """Takes a runtime, or stays with TensorFlow and says why it is not to be had."""
        try:
            if reason := _cannot(runtime, self._network):
                raise NetworkError(reason)
            found = self._loaded([runtime])
        except MissingExtraError:
            raise
        except Exception as error:  # TensorFlow, tf2onnx and the runtimes raise their own errors
            self._stay(f"not {runtime}: {first_line(error)}", log.warning)
            return
        self._describe, self.runtime, self._decided = found[runtime], runtime, True
        self._say(log.info, runtime, why)

    def _stay(self, why: str, tell: Callable[..., None] = log.info) -> None:
        self._decided = True
        self._say(tell, TENSORFLOW, why)

    def _say(self, tell: Callable[..., None], runtime: str, why: str) -> None:
        """Says which runtime computes and why; once for each runtime."""
        if self._told != runtime:
            self._told = runtime
            tell("runtime: %s (%s)", runtime, why)


def expect(describe: Describe, shapes: Iterable[Shape], times: int = 1) -> None:
    """Tells a function from `describer` which photos it will describe; nothing for one that has no choice.

    Args:
        describe: the function.
        shapes: (height, width) of each photo in pixels.
        times: as for `SwitchingDescriber.expect`.
    """
    if isinstance(describe, SwitchingDescriber):
        describe.expect(shapes, times)


def runtime_of(describe: Describe) -> str:
    """Returns the runtime with which a function from `describer` computes now."""
    import keras

    return getattr(describe, "runtime", keras.backend.backend())


def _fastest(seconds: dict[str, float]) -> tuple[str, str]:
    """The runtime to take, and the measurement as text."""
    best = min(seconds, key=seconds.__getitem__)
    if seconds[best] > FASTER * seconds[TENSORFLOW]:
        best = TENSORFLOW
    others = ", ".join(
        f"{name} {seconds[TENSORFLOW] / value:.2f}" for name, value in seconds.items() if name != TENSORFLOW
    )
    return best, f"{others or 'no other'} times as fast as TensorFlow"


def _no_choice(network: Convertible) -> str:
    """Why TensorFlow computes in any case; "" if there is a choice."""
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "it has a GPU"
    reasons = [_cannot(name, network) for name in PACKAGES]
    return reasons[0] if all(reasons) else ""


def _can(runtime: str, network: Convertible) -> bool:
    return not _cannot(runtime, network)


def _cannot(runtime: str, network: Convertible) -> str:
    """Why a runtime cannot run a network; "" if it may be tried."""
    if network.bytes > LARGEST:
        return f"networks of more than {LARGEST / 1e9:.1f} GB are not converted"
    if network.bfloat16 and runtime in FLOAT32_ONLY:
        return f"{FLOAT32_ONLY[runtime]} does not compute in bfloat16"
    for module, name, *_ in (*PACKAGES[runtime], *CONVERTERS):
        if find_spec(module) is None:
            return f"{name} is not installed"
    return ""
