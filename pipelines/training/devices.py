"""The devices of this machine, or of several machines, on which one network is trained."""

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError

from ..runtimes.options import JAX, TENSORFLOW
from .errors import TrainingError
from .stream import WHOLE, StreamPart
from .workers import ALONE, Workers, worker_place

log = logging.getLogger("keras_retrieval")


@dataclass(frozen=True)
class Devices:
    """The devices on which a network is trained.

    Attributes:
        workers: the processes that train together.
        strategy: the tf.distribute.Strategy; None for one device, and on JAX.
        local: the number of devices of this process.
        mesh: the jax.sharding.Mesh of the devices, with one axis; None for one device, and on TensorFlow.
    """

    workers: Workers = ALONE
    strategy: Any = None
    local: int = 1
    mesh: Any = None

    @property
    def count(self) -> int:
        """The number of devices of all processes."""
        return self.local * self.workers.count

    def scope(self) -> AbstractContextManager[Any]:
        """Returns the context manager in which the network and the optimizer are made."""
        return nullcontext() if self.strategy is None else self.strategy.scope()

    def part(self, batch: int) -> StreamPart:
        """Returns the part of each step's tuples that this process reads.

        Args:
            batch: the number of tuples in a step.

        Raises:
            ArgumentError: the tuples cannot be divided equally among the devices.
        """
        if batch % self.count:
            raise ArgumentError(
                f"a step has {batch} tuples or classes, which cannot be divided among {self.count} devices: give "
                "another --batch or --batch-classes"
            )
        if self.strategy is None:  # of one device, or JAX divides the tuples
            return WHOLE
        return StreamPart(self.workers.index * self.local, self.local, self.count) if self.count > 1 else WHOLE

    def whole_steps(self) -> StreamPart:
        """Returns the part of the steps of validation that this process reads: every step is read by one process."""
        return StreamPart(self.workers.index, 1, 1, every=self.workers.count)


ONE_DEVICE = Devices()


def open_devices(devices: int, workers: bool) -> Devices:
    """Connects the devices and processes that train together. Must be called before Keras' backend uses a device.

    Args:
        devices: the number of devices of this machine: of GPUs, or of parts of the CPU if there is no GPU.
        workers: whether this process trains together with those that the environment variable TF_CONFIG lists.

    Raises:
        ArgumentError: TF_CONFIG is missing or wrong, see `worker_place`; there are fewer GPUs; the backend has used its
            devices already; or it is neither TensorFlow nor, with `workers` False, JAX.
        TrainingError: another process does not answer, or this one cannot listen at its address.
    """
    if devices == 1 and not workers:
        return ONE_DEVICE
    place = worker_place() if workers else None
    import keras

    backend = keras.backend.backend()
    if backend == JAX and not workers:
        return Devices(local=devices, mesh=_jax_mesh(devices))
    if backend != TENSORFLOW:
        option = "--workers needs" if workers else "--devices needs"
        raise ArgumentError(f"{option} Keras on TensorFlow: KERAS_BACKEND is {backend}")
    import tensorflow as tf

    names = _device_names(devices)
    if place is None:
        return Devices(strategy=tf.distribute.MirroredStrategy(names), local=devices)
    if devices > 1 and names[0].startswith("CPU"):
        raise ArgumentError(
            f"--devices {devices} with --workers needs {devices} GPUs on each machine, and there is none"
        )
    log.info("worker %d of %d: waiting until all workers of TF_CONFIG have started", place.index, place.count)
    with connected():
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except tf.errors.UnknownError as error:
            raise TrainingError(
                f"worker {place.index} cannot listen at its address in TF_CONFIG ({error.message}): give a free port, "
                "and an address of this machine"
            ) from error
        gather = _gather_bytes(strategy, devices)
        return Devices(Workers(place.index, place.count, gather), strategy, devices)


def _jax_mesh(count: int) -> Any:
    """Returns a mesh of so many devices of JAX, which are made of the CPU if there is no GPU or TPU."""
    import jax

    with suppress(RuntimeError):  # JAX has its devices already
        jax.config.update("jax_num_cpu_devices", count)  # GPUs stay as many as there are
    found = jax.local_devices()
    if len(found) < count and found[0].platform == "cpu":
        raise ArgumentError(f"--devices {count} must be the first use of JAX in a process")
    if len(found) < count:
        raise ArgumentError(f"--devices {count}: there are {len(found)} {found[0].platform.upper()}s")
    return jax.sharding.Mesh(np.array(found[:count]), ("tuples",))


def _device_names(count: int) -> list[str]:
    """Makes so many devices visible; returns their names."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) < count:
        raise ArgumentError(f"--devices {count}: there are {len(gpus)} GPUs")
    try:
        if gpus:
            tf.config.set_visible_devices(gpus[:count], "GPU")
        elif len(tf.config.list_logical_devices("CPU") if _started() else []) < count > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise ArgumentError(f"--devices {count} must be the first use of TensorFlow in a process: {error}") from error
    return [f"{'GPU' if gpus else 'CPU'}:{number}" for number in range(count)]


def _started() -> bool:
    """Whether TensorFlow has made its devices, which cannot be changed then."""
    from tensorflow.python.eager import context

    return context.context()._context_handle is not None


def _gather_bytes(strategy: Any, local: int) -> Callable[[bytes], list[bytes]]:
    """Returns a function that sends bytes to all processes, and returns those of all processes."""
    import tensorflow as tf

    from .chunked_model import of_all_replicas

    # Collectives of GPUs take no bytes, but 32-bit integers.
    @tf.function(reduce_retracing=True, autograph=False)
    def gathered(words: Any, lengths: Any) -> Any:
        return strategy.run(lambda *parts: [of_all_replicas(part) for part in parts], args=(words, lengths))

    def gather(data: bytes) -> list[bytes]:
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), np.int32)
        empty = [tf.constant([0], tf.int32), tf.constant([0], tf.int32)]
        mine = [tf.constant(words), tf.constant([len(data)], tf.int32)]

        def parts_of(position: int) -> Any:
            return strategy.experimental_distribute_values_from_function(
                lambda context: (mine if local_number(context, local) == 0 else empty)[position]
            )

        with connected():
            found = gathered(parts_of(0), parts_of(1))
            every, lengths = (strategy.experimental_local_results(one)[0].numpy() for one in found)
        messages, start = [], 0
        for number, length in enumerate(lengths.tolist()):
            count = -(-length // 4) if number % local == 0 else 1
            if number % local == 0:
                messages.append(every[start : start + count].tobytes()[:length])
            start += count
        return messages

    return gather


def local_number(context: Any, local: int) -> int:
    """Returns the number of a replica among those of this process."""
    return int(context.replica_id_in_sync_group) % local


@contextmanager
def connected() -> Iterator[None]:
    """Turns the errors of a collective operation after another process has ended into one that says so."""
    import tensorflow as tf

    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
        tf.errors.CancelledError,
    )
    try:
        yield
    except (*lost, tf.errors.InternalError) as error:
        reason = next((line for line in str(error.message).splitlines() if line.strip()), "no reason is given")
        raise TrainingError(
            f"another worker has ended, or the connection to it is lost ({reason}): start all workers again with "
            "--resume"
        ) from error


def require_same_run(workers: Workers, common: dict[str, Any], photos: str, folders: dict[str, Path]) -> None:
    """Checks that all processes were started with the same options, and share photos and folders.

    Args:
        workers: the processes.
        common: the options and files that they must have in common, see `TrainOptions.in_common`.
        photos: a hash of the names, sizes and modification times of the photos.
        folders: maps the names of the options that name folders in which all processes write to these folders.

    Raises:
        TrainingError: an option or the photos differ, or a process does not see a file that the chief has written.
        OSError: a folder cannot be made.
    """
    if workers.count == 1:
        return
    for number, other in enumerate(workers.tell({"common": common, "photos": photos})):
        for name in common:
            if other["common"].get(name) != common[name]:
                raise TrainingError(
                    f"worker {number} was started with --{name.replace('_', '-')} {other['common'].get(name)}, and "
                    f"worker {workers.index} with {common[name]}: start all workers with the same options and files"
                )
        if other["photos"] != photos:
            raise TrainingError(
                f"worker {number} sees other photos (names, sizes or times of change) than worker {workers.index}: "
                "--photos must be a folder that all workers share"
            )
    for option, folder in folders.items():
        _require_shared(workers, option, folder)


def _require_shared(workers: Workers, option: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / f".workers-{workers.agree(secrets.token_hex(8))}"
    if workers.is_chief:
        mark.touch()
    workers.wait()
    seen = workers.tell(mark.exists())
    if workers.is_chief:
        mark.unlink(missing_ok=True)
    if not all(seen):
        raise TrainingError(
            f"worker {seen.index(False)} does not see the files that worker 0 writes to {folder}: --{option} must be a "
            "folder that all workers share"
        )
