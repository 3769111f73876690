"""The options of steps whose work can be spread over a cluster."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError

from ..command.kinds import require_package, takes_addresses
from ..command.options import Option, Options
from .work import DASK, LOCAL, RAY, Engine

ENGINES = (LOCAL, RAY, DASK)
SCHEMES = {"ray": RAY, "tcp": DASK, "tls": DASK, "ucx": DASK, "ws": DASK, "wss": DASK, "inproc": DASK}
"""The schemes of addresses of clusters, with their engines."""
PACKAGES = {RAY: ("ray", "Ray", "ray"), DASK: ("distributed", "Dask distributed", "dask")}
"""The module, the name and the extra of each engine."""


def engine_help(work: str, example: str = "") -> str:
    """Returns the help of the option `--engine` of a step.

    Args:
        work: what is done where the option says, such as "the photos are read".
        example: what is added to "a cluster's address".
    """
    return (
        f"Where {work}: local, in this process; ray (extra ray), on the cluster of RAY_ADDRESS; dask (extra dask), on "
        f"that of DASK_SCHEDULER_ADDRESS; or a cluster's address{example}. All machines need the same folders under "
        "the same paths."
    )


ENGINE_HELP = engine_help("the work is done", ", such as ray://head:10001 or tcp://head:8786")
WORKERS_HELP = "With --engine: number of workers; 0 for one for each GPU of the cluster, or without GPUs each machine."


def parse_engine(label: str, value: str) -> Engine:
    """Parses the value of the option `--engine`.

    Raises:
        ArgumentError: the value is neither the name of an engine nor the address of a cluster.
    """
    if value in ENGINES:
        return Engine(value)
    scheme, separator, rest = value.partition("://")
    if separator and rest and scheme in SCHEMES:
        return Engine(SCHEMES[scheme], value)
    raise ArgumentError(
        f"{label} must be {', '.join(ENGINES)}, or the address of a cluster such as ray://head:10001 or "
        f"tcp://head:8786, got {value}"
    )


@takes_addresses
def check_engine(label: str, value: Any) -> None:
    """The kind of the option `--engine`; raises ArgumentError for another value."""
    parse_engine(label, value)


@dataclass(frozen=True, kw_only=True)
class EngineOption(Options):
    """The option of steps whose work can be spread over a cluster."""

    engine: Annotated[str, Option(ENGINE_HELP, kind=check_engine)] = LOCAL

    def check(self) -> None:
        """Checks the engine.

        Raises:
            ArgumentError: an option is out of range, or `engine` is neither an engine nor an address.
        """
        super().check()
        parse_engine("--engine", self.engine)

    def check_packages(self) -> None:
        """Checks that the engine's package is installed.

        Raises:
            MissingExtraError: the package is not installed.
        """
        super().check_packages()
        if package := PACKAGES.get(parse_engine("--engine", self.engine).name):
            require_package(*package)

    def refuse_engine(self, without: bool, needed: str) -> None:
        """Refuses an engine with options that leave nothing to spread over workers.

        Args:
            without: whether the options are of that kind.
            needed: which options have work for an engine, for the message.

        Raises:
            ArgumentError: `without` is True, and the engine is not local.
        """
        if without and not self.chosen_engine.local:
            raise ArgumentError(f"--engine {self.engine} needs {needed}")

    @property
    def chosen_engine(self) -> Engine:
        """The engine, its address and the number of workers."""
        return parse_engine("--engine", self.engine)


@dataclass(frozen=True, kw_only=True)
class EngineOptions(EngineOption):
    """The options of steps whose work can be spread over some of the workers of a cluster."""

    workers: Annotated[int, Option(WORKERS_HELP, at_least=0)] = 0

    def check(self) -> None:
        """Checks the engine, and that there are workers only with one.

        Raises:
            ArgumentError: as above, or `workers` is given with the engine local, which has none.
        """
        super().check()
        if self.workers and self.chosen_engine.local:
            raise ArgumentError(f"--workers {self.workers} needs --engine ray or dask, or the address of a cluster")

    @property
    def chosen_engine(self) -> Engine:
        """The engine, its address and the number of workers."""
        return replace(super().chosen_engine, workers=self.workers)

    @property
    def engine_passed_on(self) -> dict[str, Any]:
        """These options as keyword arguments for another step that takes them."""
        return {"engine": self.engine, "workers": self.workers}
