"""Why Keras could not load a .keras file, in one sentence."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras

from ..inert_files.keras_file import keras_version


def unloadable(path: Path, error: Exception) -> str:
    """Explains an error of keras.saving.load_model.

    Args:
        path: the .keras file.
        error: the error, whose text may have many lines.

    Returns:
        One sentence: a layer that is not known, code in the file that is not executed, another version of Keras, or
        the first words of the error.
    """
    text = str(error)
    other = keras_version(path)
    foreign = bool(other) and _numbers(other) != _numbers(keras.__version__)
    unknown = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
    if unknown:
        name = unknown[1].rpartition(">")[2]
        module = _module(path, unknown[1])
        if not (foreign and module.startswith("keras")):
            place = module or "MODULE"
            return (
                f"it contains {name}, which is neither Keras' nor of this package: give --custom {place}:{name} in the "
                "shell, or import its module in Python after registering it with Keras"
            )
    if "Lambda" in text and ("safe" in text or "arbitrary" in text):
        return (
            "it contains a Lambda layer, whose code is in the file and is not executed: save it with a layer class of "
            "your own, and give --custom module:Class"
        )
    if foreign:
        return (
            f"it was saved by Keras {other}, and this is Keras {keras.__version__}: save it again with this version, "
            f"or build the network here and load its weights ({_words(text)})"
        )
    return _words(text)


def _words(text: str) -> str:
    return " ".join(text.split())[:200]


def _numbers(version: str) -> list[str]:
    return version.split(".")[:2]


def _module(path: Path, name: str) -> str:
    """The module of a class in the configuration of a .keras file; "" if it is not there."""
    try:
        with zipfile.ZipFile(path) as archive:
            stack: list[Any] = [json.loads(archive.read("config.json"))]
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile):
        return ""
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if name in (part.get("class_name"), part.get("registered_name"), part.get("config")) and part.get("module"):
                return str(part["module"])
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)
    return ""
