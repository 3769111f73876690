"""The models of a server: their configuration, version labels, the lookup of versions, and their status."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .errors import Code, ServingError, invalid
from .model_watcher import ModelWatcher, not_found
from .servable import Servable
from .warm_up import warm_up

PLATFORM = "tensorflow"

Load = Callable[[Path, str, int], Servable]


def load(path: Path, name: str, version: int, read: Load = Servable) -> Servable:
    """Loads a version of a model and runs its warm-up requests. The version is not served if either fails.

    Args:
        path: folder of the version.
        name: name of the model.
        version: number of the version.
        read: function that loads the version.

    Raises:
        Exception: any error of the loading or of a warm-up request.
    """
    servable = read(path, name, version)
    try:
        warm_up(servable)
    except BaseException:
        servable.release()
        raise
    return servable


class ModelRegistry:
    """The models of a server, by name. Several threads may use one registry.

    Args:
        poll_seconds: seconds between two scans of each model's folder for new versions; 0 to scan only once.
        changed: function that is called after every scan of a model's folder.
        read: function that loads a version from its folder.
    """

    def __init__(
        self, poll_seconds: float = 1.0, changed: Callable[[], None] = lambda: None, read: Load = Servable
    ) -> None:
        self.poll_seconds, self._changed, self._load = poll_seconds, changed, partial(load, read=read)
        self._models: dict[str, ModelWatcher] = {}
        self._configured: dict[str, Any] = {}
        self._labels: dict[tuple[str, str], int] = {}
        self._configuring = threading.Lock()

    def configure(self, config: Any) -> None:
        """Sets the served models: loads new models, and unloads models that are not in the configuration.

        Returns when the new models are loaded. Models that were served before and are in the configuration remain
        available throughout.

        Args:
            config: ModelServerConfig.

        Raises:
            ServingError: the configuration is invalid, in which case nothing is changed; or no version of a new model
                could be loaded; or a label names a version that is not available.
        """
        with self._configuring:
            configs = _checked(config)
            new = [name for name in configs if name not in self._configured]
            for name in self._configured.keys() - configs.keys():
                self._models[name].stop()
            for name, model in configs.items():
                if name not in self._models:
                    self._models[name] = ModelWatcher(name, self._load, self.poll_seconds, self._changed)
                if model != self._configured.get(name):
                    self._models[name].start(model)
            self._configured = configs
            for name in configs:
                self._models[name].wait_for_scan()
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
            raise not_found(spec.name, number)
        return model.acquire(number)

    def status(self, spec: Any) -> Any:
        """Makes the response to a GetModelStatus request: the states of the versions of a model, newest first.

        Args:
            spec: ModelSpec of a request. If it names a version, the response contains only this version.

        Returns:
            The GetModelStatusResponse.

        Raises:
            ServingError: the model or the version is unknown (NOT_FOUND), or the label is unknown (INVALID_ARGUMENT).
        """
        from tensorflow_serving.apis import get_model_status_pb2

        number, model = self._number(spec), self._models.get(spec.name)
        states = [state for state in (model.states() if model else []) if number in (None, state[0])]
        if not states:
            what = "any versions" if number is None else f"version {number}"
            raise ServingError(Code.NOT_FOUND, f"Could not find {what} of model {spec.name}")
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
        with self._configuring:
            for model in self._models.values():
                model.stop()
            self._configured = {}

    def _number(self, spec: Any) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            if (spec.name, spec.version_label) not in self._labels:
                raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            return self._labels[spec.name, spec.version_label]
        return spec.version.value if choice == "version" else None

    def _check_available(self, names: list[str]) -> None:
        missing = [name for name in names if not self._models[name].available()]
        if missing:
            reasons = ["; ".join(self._models[n].failures()) or "its folder contains no version" for n in missing]
            listed = ", ".join(f"{name}: {reason}" for name, reason in zip(missing, reasons, strict=True))
            raise ServingError(Code.UNKNOWN, f"Some models did not become available: {{{listed}}}")

    def _checked_labels(self, configs: dict[str, Any]) -> dict[tuple[str, str], int]:
        labels = {}
        for name, config in configs.items():
            for label, version in config.version_labels.items():
                if version not in self._models[name].available():
                    message = f"Request to assign label to version {version} of model {name}, which is not currently"
                    raise ServingError(Code.FAILED_PRECONDITION, f"{message} available for inference")
                labels[name, label] = version
        return labels


def _checked(config: Any) -> dict[str, Any]:
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    configs: dict[str, Any] = {}
    for model in config.model_config_list.config:
        if model.name in configs:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        _check(model)
        configs[model.name] = model
    return configs


def _check(model: Any) -> None:
    if not Path(model.base_path).is_absolute():
        message = f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
        raise invalid(message)
    if not model.model_platform and not model.model_type:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if model.model_platform not in ("", PLATFORM):
        raise invalid(f"Model {model.name} requests unsupported platform {model.model_platform}")
    if not Path(model.base_path).is_dir():
        raise invalid(f"Could not find base path {model.base_path} for servable {model.name}")
