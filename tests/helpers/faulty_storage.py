"""A storage in memory that fails: the addresses faulty://FOLDER of fsspec, and a clock that its outages go by."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import fsspec
from fsspec.implementations.memory import MemoryFileSystem
from keras_retrieval.pipelines.files import remote as installed_remote

from pipelines.files import remote
from tests.helpers.clock import Clock


class Faults:
    """What fails, for all file systems of this kind.

    Attributes:
        every: one request in so many fails; 0 for none.
        outage: the time from which and until which all requests fail.
        error: the error of a request that fails.
        requests: the names and paths of all requests.
    """

    def __init__(self) -> None:
        self.every, self.outage = 0, (0.0, 0.0)
        self.error: Exception = ConnectionResetError("connection reset by peer")
        self.requests: list[tuple[str, str]] = []
        self.clock = Clock()
        self.lock = Lock()

    def met(self, request: str, path: str) -> None:
        with self.lock:
            self.requests.append((request, path))
            count = len(self.requests)
        if (self.every and count % self.every == 0) or self.outage[0] <= self.clock.now < self.outage[1]:
            raise self.error

    def count(self, request: str) -> int:
        return sum(name == request for name, _ in self.requests)


class FaultyFileSystem(MemoryFileSystem):
    protocol = "faulty"
    store: dict = {}  # noqa: RUF012 - as in the class above, one for all of this kind
    pseudo_dirs = [""]  # noqa: RUF012
    cachable = True
    faults = Faults()

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("faulty://"))

    def find(self, path, *args, **kwargs):
        self.faults.met("find", path)
        return super().find(path, *args, **kwargs)

    def cat_file(self, path, *args, **kwargs):
        self.faults.met("read", path)
        return super().cat_file(path, *args, **kwargs)

    def pipe_file(self, path, *args, **kwargs):
        self.faults.met("write", path)
        return super().pipe_file(path, *args, **kwargs)

    def put_file(self, lpath, rpath, *args, **kwargs):
        self.faults.met("write", rpath)
        return super().put_file(lpath, rpath, *args, **kwargs)

    def get_file(self, rpath, *args, **kwargs):
        self.faults.met("fetch", rpath)
        return super().get_file(rpath, *args, **kwargs)

    def rm(self, path, *args, **kwargs):
        self.faults.met("remove", path[0] if isinstance(path, list) else path)
        return super().rm(path, *args, **kwargs)

    def info(self, path, **kwargs):
        return super().info(path, **kwargs)


@contextmanager
def faulty_storage(monkeypatch) -> Iterator[Faults]:
    """Registers the storage, empty and without faults, and lets `remote` go by its clock."""
    faults = FaultyFileSystem.faults = Faults()
    fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)
    monkeypatch.setattr(remote, "time", faults.clock)
    monkeypatch.setattr(installed_remote, "time", faults.clock)
    FaultyFileSystem.store.clear()
    yield faults
    FaultyFileSystem.store.clear()


def upload(folder: Path, place: str) -> None:
    """Copies a folder of this machine to faulty://PLACE, without faults."""
    system = fsspec.filesystem("faulty")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            MemoryFileSystem.pipe_file(system, f"/{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())
