"""Loads versions: reads the SavedModel, reads the version's parameters of batching, and runs its warm-up requests."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .config import read_batching_parameters
from .metrics import LOAD_ATTEMPTS, LOAD_LATENCY, Metrics
from .servable import TAG, Servable
from .warm_up import warm_up

BATCHING_FILE = "batching_params.pbtxt"  # in the folder of a version

Load = Callable[[Path, str, int], Servable]


@dataclass(frozen=True)
class LoadSettings:
    """How versions are loaded.

    Args:
        tags: tags of the graph to load from a SavedModel.
        session_config: ConfigProto of TensorFlow's sessions; None for TensorFlow's defaults.
        warm_up_iterations: number of times that each warm-up request of a version is run; 0 for no warm-up.
        batching_by_version: whether the parameters of batching are read from the file BATCHING_FILE of each version.
        tensor_content: whether Predict responses have their values in the field tensor_content; see `to_proto`.
        retries: number of times that the loading of a version is tried again after a failure.
        retry_seconds: seconds between a failure and the next try; a negative number is taken for 0.
        check_method_names: whether the signature of a warm-up request must have the method of the request.
        metrics: metrics in which warm-ups are counted.
    """

    tags: tuple[str, ...] = (TAG,)
    session_config: Any = None
    warm_up_iterations: int = 1
    batching_by_version: bool = False
    tensor_content: bool = False
    retries: int = 0
    retry_seconds: float = 60.0
    check_method_names: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    def read(self, path: Path, name: str, version: int) -> Servable:
        """Reads the SavedModel of a version.

        Args:
            path: folder of the version.
            name: name of the model.
            version: number of the version.

        Raises:
            Exception: TensorFlow cannot load the folder.
        """
        return Servable(path, name, version, tags=self.tags, session_config=self.session_config)


def load(path: Path, name: str, version: int, read: Load, settings: LoadSettings) -> Servable:
    """Loads a version of a model and runs its warm-up requests. The version is not served if either fails.

    Args:
        path: folder of the version.
        name: name of the model.
        version: number of the version.
        read: function that reads the SavedModel, `settings.read` or one that adds signatures.
        settings: how versions are loaded.

    Raises:
        ServerConfigError: the version's parameters of batching cannot be used.
        Exception: any error of the loading or of a warm-up request.
    """
    file = path / BATCHING_FILE
    batching = read_batching_parameters(file) if settings.batching_by_version and file.is_file() else None
    servable = _counted(path, lambda: read(path, name, version), settings.metrics)
    try:
        servable.batching, servable.tensor_content = batching, settings.tensor_content
        if settings.warm_up_iterations:
            warm_up(servable, settings.warm_up_iterations, settings.metrics, settings.check_method_names)
    except BaseException:
        servable.release()
        raise
    return servable


def _counted(path: Path, read: Callable[[], Servable], metrics: Metrics) -> Servable:
    started, status = time.monotonic(), "fail"
    try:
        servable = read()
        status = "success"
        metrics.count(LOAD_LATENCY, int((time.monotonic() - started) * 1e6), model_path=str(path))
        return servable
    finally:
        metrics.count(LOAD_ATTEMPTS, model_path=str(path), status=status)
