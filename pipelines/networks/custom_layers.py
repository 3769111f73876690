"""Layers of a user's own, by the option `--custom module:attribute`, and their import when a network is loaded."""

import importlib
import sys
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any

from keras_retrieval.errors import ArgumentError

from ..command.options import Option, Options

_named: dict[str, None] = {}  # "module:attribute" of all layers that steps of this process were given


@dataclass(frozen=True, kw_only=True)
class CustomLayers(Options):
    """The option of steps that load a network with layers of its own; the layers are known in the whole process."""

    custom: Annotated[
        list[str] | None,
        Option(
            "module:attribute of a layer or function that the network contains and that is neither Keras' nor of this "
            "package, such as my_layers:Attention; repeat it for several. The module is imported, from the current "
            "folder too, and may run any code."
        ),
    ] = None

    def check(self) -> None:
        """Checks the option, and notes its layers for the networks that are loaded from now on.

        Raises:
            ArgumentError: an option is out of range, is not module:attribute, or there is no such module.
        """
        super().check()
        for name in self.custom or ():
            module, colon, attribute = name.partition(":")
            parts = [*module.split("."), *attribute.split(".")]
            if not colon or not all(part.isidentifier() for part in parts):
                raise ArgumentError(f"--custom must be module:attribute, such as my_layers:Attention, got {name!r}")
            if PathFinder.find_spec(parts[0], [str(Path.cwd()), *sys.path]) is None and parts[0] not in sys.modules:
                raise _not_importable(name, module, f"No module named {parts[0]!r}")
            _named[name] = None


def register_custom_layers() -> None:
    """Imports the layers that were given, and makes them known to Keras under their names; nothing without any.

    Raises:
        ArgumentError: a module cannot be imported, or has no such attribute.
    """
    for name in list(_named):
        module, _, attribute = name.partition(":")
        value = _imported(name, module)
        for part in attribute.split("."):
            if not hasattr(value, part):
                _named.pop(name)
                raise ArgumentError(f"--custom {name}: the module {module} has no {attribute!r}")
            value = getattr(value, part)
        import keras

        keras.saving.get_custom_objects()[getattr(value, "__name__", attribute)] = value


def _imported(name: str, module: str) -> Any:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)  # a command installed in an environment does not look there
    try:
        return importlib.import_module(module)
    except Exception as error:  # the module may raise anything
        _named.pop(name)
        raise _not_importable(name, module, " ".join(str(error).split())[:200]) from error
    finally:
        sys.path.remove(folder)


def _not_importable(name: str, module: str, reason: str) -> ArgumentError:
    return ArgumentError(f"--custom {name}: {module} cannot be imported from {Path.cwd()}: {reason}")
