"""The models of a server: their configuration, version labels, the lookup of versions, and their status."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..http.messages import shortened
from .config import PLATFORM
from .errors import Code, ServingError, invalid
from .loading import Load, LoadSettings, load
from .model_watcher import ModelWatcher, not_found
from .servable import Servable

logger = logging.getLogger(__name__)
TENSORFLOW = 1  # ModelType
WAIT_SECONDS = 0.2  # between two looks at whether the server is to stop


class ModelRegistry:
    """The models of a server, by name. Several threads may use one registry.

    Args:
        poll_seconds: seconds between two scans of each model's folder for new versions; 0 to scan only once, a negative
            number not to scan.
        changed: function that is called after every scan of a model's folder.
        read: function that reads the SavedModel of a version from its folder; None for `LoadSettings.read`.
        loading: how versions are loaded.
        labels_of_unavailable: whether a label that is not in use may name a version that is not available.
    """

    def __init__(
        self,
        poll_seconds: float = 1.0,
        changed: Callable[[], None] = lambda: None,
        read: Load | None = None,
        loading: LoadSettings | None = None,
        labels_of_unavailable: bool = False,
    ) -> None:
        self.poll_seconds, self._changed = poll_seconds, changed
        self._loading = loading or LoadSettings()
        self._load = partial(load, read=read or self._loading.read, settings=self._loading)
        self._labels_of_unavailable = labels_of_unavailable
        self._models: dict[str, ModelWatcher] = {}
        self._configured: dict[str, Any] = {}
        self._labels: dict[tuple[str, str], int] = {}
        self._configuring, self._stopping = threading.Lock(), threading.Event()

    def configure(self, config: Any, stopped: threading.Event | None = None) -> None:
        """Sets the served models: loads new models, and unloads models that are not in the configuration.

        Returns when the new models are loaded. Models that were served before and are in the configuration remain
        available throughout.

        Args:
            config: ModelServerConfig.
            stopped: if given, waits for the first version of each model, until this event is set; a model's base folder
                need not exist yet.

        Raises:
            ServingError: the configuration is invalid, in which case nothing is changed; or no version of a new model
                could be loaded; or a label names a version that is not available; or `stopped` was set (CANCELLED).
        """
        if stopped is not None and config.WhichOneof("config") is None:
            logger.info("Taking no action for empty config.")
            return
        with self._configuring:
            configs = _checked(config, folders=stopped is None)
            if configs != self._configured:  # which a file that is read again and again seldom changes
                logger.info("Adding/updating models.")
            new = [name for name in configs if name not in self._configured]
            for name in self._configured.keys() - configs.keys():
                self._models[name].stop()
            for name, model in configs.items():
                if name not in self._models:
                    retries, seconds = self._loading.retries, self._loading.retry_seconds
                    self._models[name] = ModelWatcher(
                        name, self._load, self.poll_seconds, self._changed, retries, seconds
                    )
                if model != self._configured.get(name):
                    logger.info(" (Re-)adding model: %s", name)
                    self._models[name].start(model)
            self._configured = configs
            self._wait(stopped)
            self._check_available(new)
            self._labels = self._checked_labels(configs)

    def acquire(self, spec: Any) -> Servable:
        """Finds the version that a ModelSpec names by number or label, or the newest version if it names none.

        Args:
            spec: ModelSpec of a request.

        Returns:
            The version, with a reference that the caller must release (`Servable.release`).

        Raises:
            ServingError: the ModelSpec contains no name (INVALID_ARGUMENT), an unknown label (INVALID_ARGUMENT), or an
                unknown model or version (NOT_FOUND).
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        number = self._number(spec)
        model = self._models.get(spec.name)
        if model is None:
            raise not_found(shortened(spec.name), number)
        return model.acquire(number)

    def status(self, spec: Any) -> Any:
        """Makes the response to a GetModelStatus request: the states of the versions of a model, newest first.

        Args:
            spec: ModelSpec of a request. If it names a version, the response contains only this version; a label has no
                effect, as in TensorFlow Serving.

        Returns:
            The GetModelStatusResponse.

        Raises:
            ServingError: the model or the version is unknown (NOT_FOUND).
        """
        from tensorflow_serving.apis import get_model_status_pb2

        number = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
        model = self._models.get(spec.name)
        states = [state for state in (model.states() if model else []) if number in (None, state[0])]
        if not states:
            what = "any versions" if number is None else f"version {number}"
            raise ServingError(Code.NOT_FOUND, f"Could not find {what} of model {shortened(spec.name)}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state, error in states:
            status = response.model_version_status.add(version=version, state=state).status
            status.error_code, status.error_message = (error.code, error.message) if error else (Code.OK, "")
        return response

    def names(self) -> list[str]:
        """Returns the names of the configured models."""
        return list(self._configured)

    def ready(self) -> bool:
        """Returns whether there is a configured model, and every configured model has an available version."""
        return bool(self._configured) and all(self._models[name].available() for name in self._configured)

    def stop(self) -> None:
        """Stops scanning the folders, and unloads all models."""
        self._stopping.set()
        with self._configuring:
            for model in self._models.values():
                model.stop()
            self._configured = {}

    def _number(self, spec: Any) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if (spec.name, spec.version_label) not in self._labels:
                raise invalid(f"Unrecognized servable version label: {shortened(spec.version_label)}")
            return self._labels[spec.name, spec.version_label]
        return spec.version.value if choice == "version" else None

    def _wait(self, stopped: threading.Event | None) -> None:
        for name in self._configured:
            while not self._models[name].wait_for_scan(WAIT_SECONDS, found=stopped is not None):
                if self._stopping.is_set() or (stopped is not None and stopped.is_set()):
                    raise ServingError(Code.CANCELLED, f"Stopped before model {name} had a version")

    def _check_available(self, names: list[str]) -> None:
        missing = [name for name in names if not self._models[name].available()]
        if missing:
            empty = "{{{{name: {}}} due to error: its folder contains no version}}"
            reasons = [reason for n in missing for reason in self._models[n].failures() or [empty.format(n)]]
            listed = "".join(f"{reason}, " for reason in reasons)
            message = f"{len(reasons)} servable(s) did not become available: {{{listed}}}"
            raise ServingError(Code.UNKNOWN, message)

    def _checked_labels(self, configs: dict[str, Any]) -> dict[tuple[str, str], int]:
        labels = {}
        for name, config in configs.items():
            for label, version in config.version_labels.items():
                allowed = self._labels_of_unavailable and (name, label) not in self._labels
                if not allowed and version not in self._models[name].available():
                    message = f"Request to assign label to version {version} of model {name}, which is not currently"
                    raise ServingError(Code.FAILED_PRECONDITION, f"{message} available for inference")
                labels[name, label] = version
        return labels


def _checked(config: Any, folders: bool) -> dict[str, Any]:
    """Returns the ModelConfig of each model; `folders`: whether their base folders must exist."""
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    configs: dict[str, Any] = {}
    for model in config.model_config_list.config:
        if model.name in configs:
            raise invalid(f"Illegal to list model {shortened(model.name)} multiple times in config list")
        _check(model)
        if folders and not Path(model.base_path).is_dir():
            names = f"{shortened(model.base_path)} for servable {shortened(model.name)}"
            raise invalid(f"Could not find base path {names}")
        configs[model.name] = model
    return configs


def _check(model: Any) -> None:
    name, folder, platform = shortened(model.name), shortened(model.base_path), shortened(model.model_platform)
    if "://" in model.base_path:
        raise invalid(f"Model {name}: {folder} is a URI, and only local folders are served")
    if not Path(model.base_path).is_absolute():
        raise invalid(f"Expected model {name} to have an absolute path or URI; got base_path()={folder}")
    if model.model_type and model.model_platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if model.model_type not in (0, TENSORFLOW):
        raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    if not model.model_platform and not model.model_type:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if model.model_platform not in ("", PLATFORM):
        raise invalid(f"Model {name} requests unsupported platform {platform}")
