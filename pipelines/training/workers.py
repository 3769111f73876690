"""The processes that train one network together, of which each reads and describes its share of the photos."""

import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from keras_retrieval.errors import ArgumentError

Item = TypeVar("Item")
Arrays = dict[str, np.ndarray]

TF_CONFIG = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["HOST1:PORT", "HOST2:PORT"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Workers:
    """The processes that train one network together, as one of them sees them.

    Attributes:
        index: the number of this process, from 0. The process 0, the chief, writes all files.
        count: the number of processes.
        gather: function that sends bytes to all processes, and returns those that each of them sent, in order. All
            processes must call it the same number of times. None if there is one process.
    """

    index: int = 0
    count: int = 1
    gather: Callable[[bytes], list[bytes]] | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the files."""
        return self.index == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Returns the part of a sequence that this process works on; the parts of all processes make the sequence."""
        return items[self.index * len(items) // self.count : (self.index + 1) * len(items) // self.count]

    def exchange(self, arrays: Arrays) -> list[Arrays]:
        """Sends arrays to all processes; returns those that each process sent, this one included.

        Raises:
            TrainingError: another process has ended.
        """
        if self.gather is None:
            return [arrays]
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        received = []
        for data in self.gather(file.getvalue()):
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                received.append({name: found[name] for name in found.files})
        return received

    def tell(self, value: Any) -> list[Any]:
        """Sends a value that is serialisable as JSON; returns those that each process sent, this one included.

        Raises:
            TrainingError: another process has ended.
        """
        if self.gather is None:
            return [value]
        return [json.loads(data) for data in self.gather(json.dumps(value).encode())]

    def agree(self, value: Any) -> Any:
        """Returns the value, serialisable as JSON, that the chief passes to this method."""
        return self.tell(value if self.is_chief else None)[0]

    def wait(self) -> None:
        """Waits until all processes have called this method.

        Raises:
            TrainingError: another process has ended.
        """
        self.tell(None)

    def chief_first(self, work: Callable[[], Item]) -> Item:
        """Does the same work in all processes, in the others when the chief has done it."""
        if self.is_chief:
            result = work()
            self.wait()
            return result
        self.wait()
        return work()


ALONE = Workers()


@dataclass(frozen=True)
class WorkerPlace:
    """The place of this process among those that TF_CONFIG lists.

    Attributes:
        index: the number of this process, from 0.
        count: the number of processes.
    """

    index: int
    count: int


def worker_place(environment: dict[str, str] | None = None) -> WorkerPlace:
    """Reads the place of this process from the environment variable TF_CONFIG.

    Args:
        environment: the environment variables; None for those of this process.

    Raises:
        ArgumentError: TF_CONFIG is not set, or does not name the addresses of at least one worker and the task of this
            process.
    """
    text = (os.environ if environment is None else environment).get(TF_CONFIG, "")
    if not text:
        raise ArgumentError(f"--workers needs the environment variable TF_CONFIG, such as {_EXAMPLE}")
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        kind, number = str(task["type"]), int(task["index"])
        listed = {name: cluster.get(name, []) for name in ("chief", "worker")}
        sizes = {name: len(addresses) for name, addresses in listed.items()}
        others = sorted(set(cluster) - set(sizes))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ArgumentError(
            f"TF_CONFIG cannot be read ({type(error).__name__}: {error}): it must be as {_EXAMPLE}"
        ) from error
    _check_addresses(listed)
    if others:
        raise ArgumentError(
            f"TF_CONFIG lists tasks of the type {others[0]!r}, and training has only workers (and a chief)"
        )
    if kind not in sizes or not 0 <= number < sizes[kind] or sizes["chief"] > 1:
        raise ArgumentError(
            f"TF_CONFIG names the task {kind} {number}, which is not one of its {sizes['worker']} workers"
            f"{' and its chief' if sizes['chief'] else ''}"
        )
    return WorkerPlace(number + (sizes["chief"] if kind == "worker" else 0), sum(sizes.values()))


def _check_addresses(listed: dict[str, Any]) -> None:
    """Raises ArgumentError unless tasks are lists of HOST:PORT, each once: TensorFlow would wait for others."""
    seen: set[str] = set()
    for name, addresses in listed.items():
        if not isinstance(addresses, list):
            raise ArgumentError(f"TF_CONFIG: {name} is not a list: it must be as {_EXAMPLE}")
        for address in addresses:
            host, _, port = str(address).rpartition(":")
            if not host or "/" in host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ArgumentError(f"TF_CONFIG: {name} {address!r} is not HOST:PORT: it must be as {_EXAMPLE}")
            if address in seen:
                raise ArgumentError(f"TF_CONFIG: {address!r} is listed twice, and every worker has an address")
            seen.add(address)
