"""Time and memory of a training step (5 tuples of 7 photos), compared with a plain implementation of the published one.

    python -m bench.training [--network vgg16_gem] [--size 362] [--form padded] [--rounds 2]

The published scheme ("plain") has one photo per forward pass and one backward pass per tuple. Photos have their exact
sizes or are padded to squares, which adds pixels. All methods use the same photos, contrastive loss (with a margin such
that every negative contributes), L2 penalty and Adam. They start from the same weights, which are never changed because
the learning rate is 0. The methods take turns. For each, the table lists the minimum seconds; the speed relative to the
plain scheme on photos in the same form; the processor seconds of all cores, which other load on the machine hardly
changes; the memory of its first step in a separate process, in addition to network and photos; and the relative
difference of its gradient g from the gradient g0 of the plain scheme, ||g - g0|| / ||g0||. With Keras' JAX backend only
the padded methods are measured, and on a GPU the memory is that of the GPU.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from bench.extraction import chosen
from bench.photos import network, photos
from bench.plain_training import plain_step
from bench.record import recorded
from bench.spent import peak_bytes
from keras_retrieval.losses import ContrastiveLoss
from keras_retrieval.networks.precision import set_trunk_precision
from keras_retrieval.networks.tuple_model import TupleModel
from pipelines.photos.reading import Reading
from pipelines.training.tuple_batches import exact, padded

TUPLES, PHOTOS = 5, 7
L2 = 1e-6
MARGIN = 1.5
MEGABYTE = 2**20


class Way(NamedTuple):
    """A method to compute a training step.

    Attributes:
        form: "exact" for photos at their exact sizes, "padded" for photos padded to squares.
        plain: whether the method is the published scheme.
        bfloat16: whether the trunk computes in bfloat16.
        chunk: number of photos whose activations are in memory at a time; None for all.
    """

    form: str
    plain: bool = False
    bfloat16: bool = False
    chunk: int | None = None

    def __str__(self) -> str:
        chunk = f", chunks of {self.chunk}" if self.chunk else ""
        return f"{'plain' if self.plain else 'ours'}, {self.form}{', bf16' if self.bfloat16 else ''}{chunk}"


def ways(form: str = "") -> dict[str, Way]:
    found = [Way("padded", plain=True), Way("padded"), Way("padded", bfloat16=True)]
    if keras.backend.backend() == "tensorflow":
        exact_ways = [Way("exact", plain=True), Way("exact"), Way("exact", bfloat16=True), Way("exact", chunk=PHOTOS)]
        found = [*exact_ways, *found, Way("padded", chunk=PHOTOS)]
    return {str(way): way for way in found if form in ("", way.form)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vgg16_gem", help="network as BACKBONE_POOLING, such as vgg16_gem")
    parser.add_argument("--size", type=int, default=362, help="longest side of the photos in pixels")
    parser.add_argument(
        "--form", choices=["exact", "padded"], default="", help="form of the photos, padded or exact; both if not given"
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="times that each method is measured, of which the fastest counts"
    )
    parser.add_argument("--memory-of", choices=list(ways()), help="print only the megabytes of one method's first step")
    arguments = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes share a GPU
    pixels = read(arguments.size)
    if arguments.memory_of:
        print(memory(steps(arguments.network, pixels, arguments.size, [ways()[arguments.memory_of]])[0].take))
        return
    print(about(arguments.network, pixels, arguments.size))
    raced = ways(arguments.form)
    # In processes of their own, before this process has allocated much.
    megabytes = {name: memory_elsewhere(arguments.network, arguments.size, name) for name in raced}
    taken = race(steps(arguments.network, pixels, arguments.size, list(raced.values())), arguments.rounds)
    measured = dict(zip(raced.values(), taken, strict=True))
    with recorded("training-step") as add:
        for name, way in raced.items():
            one, plain = measured[way], measured[Way(way.form, plain=True)]
            differs = np.linalg.norm(one.gradient - plain.gradient) / np.linalg.norm(plain.gradient)
            add(
                {
                    "method": name,
                    "seconds": f"{one.seconds:.2f}",
                    "speed in wall time": f"{plain.seconds / one.seconds:.2f}",
                    "core seconds": f"{one.of_cores:.2f}",
                    "memory, MB": megabytes[name],
                    "gradient differs by": f"{differs:.0e}",
                }
            )


def read(size: int) -> list[np.ndarray]:
    """Reads the photos of the step, with `size` pixels on the longest side, as arrays (H, W, 3)."""
    folder, _ = photos("eval/oxford_mini/jpg", TUPLES * PHOTOS)
    return [Reading(folder, size).read(name) for name in chosen(folder, TUPLES * PHOTOS)]


def about(name: str, pixels: list[np.ndarray], size: int) -> str:
    shapes = {photo.shape for photo in pixels}
    area = size**2 * len(pixels) / sum(photo.shape[0] * photo.shape[1] for photo in pixels)
    return (
        f"{name} on {keras.backend.backend()}, {os.cpu_count()} cores{gpu()}; {TUPLES} tuples of {PHOTOS} photos of "
        f"{len(shapes)} shapes, long side {size}; as squares they have {area:.2f} times the pixels"
    )


def gpu() -> str:
    if keras.backend.backend() != "jax":
        return ""
    import jax

    return f", {jax.devices()[0].device_kind}"


class Step(NamedTuple):
    """A training step.

    Attributes:
        take: function that performs the step and can be called repeatedly.
        optimizer: the Keras optimizer of the step.
    """

    take: Callable[[], Any]
    optimizer: Any


def steps(name: str, pixels: list[np.ndarray], size: int, chosen_ways: list[Way]) -> list[Step]:
    networks = {False: network(name)}
    if any(way.bfloat16 for way in chosen_ways):
        networks[True] = network(name)
        networks[True].set_weights(networks[False].get_weights())  # the same weights, even if they are random
        set_trunk_precision(networks[True], "mixed_bfloat16")
    return [step(networks[way.bfloat16], pixels, size, way) for way in chosen_ways]


def step(model: Any, pixels: list[np.ndarray], size: int, way: Way) -> Step:
    optimizer, loss = keras.optimizers.Adam(0.0), ContrastiveLoss(MARGIN)
    rows = np.arange(len(pixels), dtype="int32").reshape(TUPLES, PHOTOS)
    if way.plain:
        tuples = [[one_photo(pixels[row], way.form, size) for row in photos_of_tuple] for photos_of_tuple in rows]
        return Step(plain_step(model, tuples, optimizer, loss, L2), optimizer)
    inputs = {**(exact(pixels) if way.form == "exact" else padded(pixels, TUPLES, size)), "rows": rows}
    trained = tuple_model(model, way)
    trained.compile(optimizer, loss=loss)
    return Step(lambda: trained.train_on_batch(inputs, rows), optimizer)


def tuple_model(model: Any, way: Way) -> Any:
    if way.form == "padded" and way.chunk is None:
        return TupleModel(model, L2)
    from pipelines.training.chunked_model import ChunkedTupleModel

    return ChunkedTupleModel(model, L2, way.chunk)


def one_photo(photo: np.ndarray, form: str, size: int) -> dict[str, np.ndarray]:
    if form == "exact":
        return {"images": photo[None]}
    return {key: value[0] for key, value in padded([photo], 1, size).items()}


class Taken(NamedTuple):
    """The measurements of a step.

    Attributes:
        seconds: minimum wall time.
        of_cores: minimum processor time of all cores, in seconds.
        gradient: the gradient of the first step, flattened.
    """

    seconds: float
    of_cores: float
    gradient: np.ndarray


def race(raced: list[Step], rounds: int) -> list[Taken]:
    """Measures the steps `rounds` times; the steps take turns, in a different order each time."""
    gradients = []
    for one in raced:
        one.take()
        gradients.append(gradient(one.optimizer))
    seconds = np.full((rounds, len(raced), 2), np.inf)
    for turn in range(rounds):
        for place in np.roll(np.arange(len(raced)), turn).tolist():
            started = time.perf_counter(), time.process_time()
            raced[place].take()
            seconds[turn, place] = time.perf_counter() - started[0], time.process_time() - started[1]
    least = seconds.min(axis=0).tolist()
    return [Taken(clock, cores, first) for (clock, cores), first in zip(least, gradients, strict=True)]


def gradient(optimizer: Any) -> np.ndarray:
    """Returns the gradient of all weights, flattened, from an Adam optimizer that has made exactly one step.

    After one step, Adam's moving average of the gradient is (1 - beta_1) times the gradient.
    """
    means = [variable for variable in optimizer.variables if variable.path.endswith("_momentum")]
    return np.concatenate([keras.ops.convert_to_numpy(mean).ravel() for mean in means]) / (1 - optimizer.beta_1)


def memory(take: Callable[[], Any]) -> int:
    """Returns the peak memory of a step in megabytes, in addition to the memory in use before the step.

    On a GPU with Keras' JAX backend it is the peak of all GPU memory that this process has used.
    """
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = peak_bytes()
    take()
    if keras.backend.backend() == "jax":
        import jax

        statistics = jax.devices()[0].memory_stats()
        if statistics:
            return statistics["peak_bytes_in_use"] // MEGABYTE
    return (peak_bytes() - before) // MEGABYTE


def memory_elsewhere(name: str, size: int, way: str) -> int:
    command = [sys.executable, "-m", "bench.training", "--network", name, "--size", str(size), "--memory-of", way]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
