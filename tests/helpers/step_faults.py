"""A valid command of every step, and the faults that can be made in it: one wrong name, path or option at a time.

The faults come from the declarations of the options, so that those of a new option or step are among them.
"""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from keras_retrieval.pipelines.command.options import Argument, Option, declarations

from keras_retrieval.steps import STEPS, function_name, module_name

# Names below the folder that `make_inputs` fills; NEW is a place for what a step writes.
COMMANDS: dict[str, list[str]] = {
    "app": ["photos"],
    "demo": ["photos", "--work", "NEW"],
    "sample-photos": ["NEW"],
    "duplicates": ["photos"],
    "edge-maps": ["photos", "NEW"],
    "positions": ["photos", "NEW.csv"],
    "build": ["alexnet_gem", "NEW.keras", "--weights", "none"],
    "convert": ["network.pth", "NEW.keras"],
    "weights": ["list", "megaloc"],
    "extract": ["model.keras", "photos", "NEW"],
    "whiten": ["model.keras", "photos", "NEW.keras"],
    "reconstruct": ["photos", "NEW"],
    "pairs": ["model.keras", "photos", "NEW.txt"],
    "localize": ["descriptors", "colmap", "photos"],
    "clean": ["photos", "NEW"],
    "tuples": ["photos", "NEW.npz"],
    "train": ["tuples.npz", "--photos", "photos", "--model", "model.keras", "--output", "NEW"],
    "classify": ["photos", "--model", "model.keras", "--output", "NEW"],
    "train-proposals": ["boxes.json", "--photos", "photos", "--model", "model.keras", "--output", "NEW"],
    "evaluate": ["model.keras", "--dataset", "roxford5k", "--photos", "photos", "--output", "NEW"],
    "index": ["descriptors", "NEW"],
    "update": ["index", "--delete", "0.jpg"],
    "calibrate": ["index", "tuples.npz"],
    "groups": ["index", "NEW"],
    "search": ["index", "photos"],
    "export-saved-model": ["model.keras", "NEW"],
    "serve": ["serving"],
    "describe": ["photos/000.png"],
    "query": ["photos/000.png"],
    "export-onnx": ["model.keras", "NEW.onnx"],
}

# What an option needs beside it, so that its own fault is what is wrong.
COMPANIONS: dict[str, list[str]] = {
    "reconstruct positions": ["--near", "50m"],
    "pairs positions": ["--near", "50m"],
    "train dataset": ["--dataset-photos", "photos"],
    "train dataset_photos": ["--dataset", "roxford5k"],
    "update columns": ["--add", "descriptors"],
    "update model": ["--photos", "photos"],
    "serve photos": ["--index", "index"],
    "serve index_copy": ["--index", "s3://bucket/index"],
    "serve local": ["--index", "index", "--verify", "5"],
    "serve calibration": ["--index", "index"],
    "search local": ["--verify", "5"],
    "tuples descriptors": ["--rule", "m1"],
    "search matcher": ["--verify", "5"],
    "serve matcher": ["--index", "index", "--verify", "5"],
    "describe certificate": ["--key", "photos/000.png"],
    "describe key": ["--certificate", "photos/000.png"],
    "query certificate": ["--key", "photos/000.png"],
    "query key": ["--certificate", "photos/000.png"],
}

MISSING, FILE, FOLDER = "nowhere/missing", "photos/000.png", "photos"
NETWORKS = ("vgg17_gem", "vgg16_gme", "nowhere/missing.keras")


@dataclass(frozen=True)
class Fault:
    """A command with one fault.

    Attributes:
        step: the step.
        option: the name of the field of the option with the fault.
        value: its wrong value.
        arguments: the arguments of the command after the step.
    """

    step: str
    option: str
    value: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.step} {self.option}={self.value}"


def options_of(step: str) -> Any:
    """The options class of a step."""
    return getattr(importlib.import_module(module_name(step)), function_name(step)).options


def faults() -> Iterator[Fault]:
    """All commands of `COMMANDS` with one fault each."""
    for step, command in COMMANDS.items():
        if step in STEPS:
            yield from _faults(step, command)


def _faults(step: str, command: list[str]) -> Iterator[Fault]:
    options = options_of(step)
    hints, declared = get_type_hints(options), declarations(options)
    arguments = [name for name, option in declared.items() if isinstance(option, Argument)]
    yield Fault(step, "", "--no-such-option", (*command, "--no-such-option"))
    for name, option in declared.items():
        for value in _wrong_values(name, option, hints[name]):
            changed = [*command, *COMPANIONS.get(f"{step} {name}", ())]
            if name in arguments:
                changed[arguments.index(name)] = value
            elif option.label(name) in changed:
                changed[changed.index(option.label(name)) + 1] = value
            else:
                changed += [option.label(name), value]
            yield Fault(step, name, value, tuple(changed))


def _wrong_values(name: str, option: Option, hint: Any) -> tuple[str, ...]:
    kind = option.kind
    if option.choices:
        return ("typo",)
    if type(kind).__name__ == "Network" or getattr(kind, "__name__", "") == "network_of_collection":
        return NETWORKS
    if type(kind).__name__ == "Reads":
        what = kind.what
        return (MISSING, *((FILE,) if what == "folder" else (FOLDER,) if what == "file" else ()))
    if type(kind).__name__ == "Writes":
        return (FOLDER if kind.what == "file" else FILE, f"{FILE}/below")
    if kind is not None:  # a function of the room
        return _OF_FUNCTIONS[kind.__name__]
    return ("typo_gem",) if name == "name" else ()


_OF_FUNCTIONS = {
    "check_share": ("1.5", "half"),
    "check_edges": ("typo", "structured:nowhere.yml.gz", f"folder:{MISSING}"),
    "positions_source": (MISSING,),
    "described_folder": (MISSING, FILE, FOLDER),
    "check_engine": ("typo", "http://head:8786", "ray://"),
    "index_or_described": (MISSING, FILE, FOLDER),
    "check_features": (MISSING, f"{MISSING}.onnx", "typo", "4096"),
    "check_matcher": (MISSING, f"{MISSING}.onnx", "typo"),
    "check_camera": ("typo", "PINHOLE 640 480 500", "TYPO 640 480 500 320 240"),
    "check_output": ("poses.typo", f"{FILE}/below.csv"),
    "check_extractor": (MISSING, f"{MISSING}.onnx", "typo"),
    "check_dataset": ("typo", "nowhere.json", "roxford5k:typo"),
    "index_to_change": (MISSING, FILE, FOLDER),
    "index_to_read": (MISSING, FILE, FOLDER),
    "index_or_photos": (MISSING, FILE),
    "index_to_export": (MISSING, FILE, FOLDER),
    "index_to_write": (FILE,),
    "weights": (MISSING,),
    "published_network": (MISSING, FOLDER, "megaloc"),
    "known_weights": ("megalok",),
    "checked_by_the_step": (MISSING,),
    "photos_of_tuples": (MISSING,),
    "address_to_listen_on": ("a host name with blanks",),
    "host_to_allow": ("photos.example:80", "http://photos.example"),
    "token_file": (MISSING, FILE, FOLDER),
}


def make_inputs(folder: Path) -> None:
    """Makes what the commands of `COMMANDS` read, as far as a check looks at it; files of networks are empty."""
    from pipelines.training.checkpoint import Checkpoint, write_checkpoint
    from pipelines.training_tuples.file import write_tuples
    from tests.helpers.small import draw_folder
    from tests.helpers.small_index import indexed, random_rows
    from tests.helpers.tuples_of_clusters import tuples_of

    draw_folder(folder / "photos", 4)
    for name in ("model.keras", "model.onnx", "model.yml.gz", "network.mat", "network.pth", "boxes.json"):
        (folder / name).touch()
    (folder / "serving" / "small" / "1").mkdir(parents=True)
    (folder / "existing.csv").touch()
    for landmark in ("a", "b"):
        draw_folder(folder / "landmarks" / landmark, 2)
    (folder / "run").mkdir()
    (folder / "colmap").mkdir()
    write_checkpoint(folder / "run", Checkpoint({"precision": "float32"}, [{"loss": 1.0}]))
    indexed(folder, random_rows(3))
    names = [f"{number:03}.png" for number in range(4)]
    write_tuples(folder / "tuples.npz", tuples_of([2, 2], images=names), {})
