"""Options declared once: the constructor, the command, the checks and the fingerprint come from one dataclass."""

import inspect
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from keras_retrieval.errors import ArgumentError, RetrievalError
from pipelines.command.options import (
    Argument,
    Option,
    Options,
    check_no_path_is_empty,
    declarations,
    help_texts,
    takes,
    typer_signature,
)


@dataclass(frozen=True, kw_only=True)
class Made(Options):
    source: Annotated[Path, Argument("Where from.")] = field(kw_only=False)
    epochs: Annotated[int, Option("Epochs in total.", at_least=1, resumed=True)] = 30
    rate: Annotated[float | None, Option("Rate.", above=0)] = None
    share: Annotated[float, Option("Share.", at_least=0, at_most=1)] = 0.5
    held_out: Annotated[float, Option("Held out.", at_least=0, below=1)] = 0.5
    kind: Annotated[str, Option("Kind.", choices=("a", "b"), resumed=True)] = "a"
    padded: Annotated[bool, Option("Padded.", flags="--padded/--exact")] = True
    more: Annotated[list[Path] | None, Option("More.")] = None
    names: Annotated[list[str] | None, Option("Names.")] = None

    def check(self) -> None:
        super().check()
        if self.kind == "b" and not self.padded:
            raise ArgumentError("--kind b needs --padded")


@takes(Made)
def step(options: Made) -> Made:
    """Does it."""
    return options


def test_paths_may_be_given_as_text():
    assert step("x").source == Path("x")
    assert isinstance(step("x").source, Path)
    assert step("x", kind="b").kind == "b"


def test_paths_in_a_list_may_be_given_as_text():
    assert step("x", more=["a", Path("b")]).more == [Path("a"), Path("b")]
    assert step("x", names=("a", "b")).names == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": "3"}, "--epochs must be a whole number, got '3'"),
        ({"epochs": 1.5}, "--epochs must be a whole number, got 1.5"),
        ({"epochs": True}, "--epochs must be a whole number, got True"),
        ({"epochs": None}, "--epochs must be a whole number, got None"),
        ({"rate": "fast"}, "--rate must be a number, got 'fast'"),
        ({"kind": 3}, "--kind must be text, got 3"),
        ({"padded": "no"}, "--padded must be True or False, got 'no'"),
        ({"names": "photo.jpg"}, "--names must be a list, got 'photo.jpg'"),
        ({"more": Path("a")}, f"--more must be a list, got {Path('a')!r}"),
    ],
)
def test_values_of_a_wrong_type_are_errors_of_the_argument(options, message):
    with pytest.raises(ArgumentError) as caught:
        step("x", **options)
    assert str(caught.value) == message
    with pytest.raises(ArgumentError, match="SOURCE must be a path, got None"):
        step(None)


def test_numbers_of_numpy_become_pythons():
    options = step("x", epochs=np.int64(3), rate=np.float32(0.5), share=1)
    assert json.dumps(options.facts())
    assert (options.epochs, options.rate, options.share) == (3, 0.5, 1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["x"], {"epoch": 3}, "step(): got an unexpected keyword argument 'epoch'. Did you mean 'epochs'?"),
        (["x"], {"zzz": 3}, "step(): got an unexpected keyword argument 'zzz'"),
        ([], {}, "step(): missing a required argument: 'source'"),
        (["x", "y"], {}, "step(): too many positional arguments"),
        (["x"], {"source": "y"}, "step(): multiple values for argument 'source'"),
    ],
)
def test_a_wrong_call_names_the_step(arguments, options, message):
    with pytest.raises(TypeError) as caught:
        step(*arguments, **options)
    assert str(caught.value) == message


def test_python_calls_take_the_fields():
    assert step(Path("x")) == Made(Path("x"))
    assert step(Path("x"), epochs=2, kind="b") == Made(Path("x"), epochs=2, kind="b")
    assert step.__name__ == "step"
    assert step.__doc__ == "Does it."
    with pytest.raises(TypeError, match="nothing"):
        step(Path("x"), nothing=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "--epochs must be at least 1, got 0"),
        ({"rate": 0.0}, "--rate must be above 0, got 0.0"),
        ({"rate": math.nan}, "--rate must be a finite number, got nan"),
        ({"share": 1.5}, "--share must be at most 1, got 1.5"),
        ({"share": -1}, "--share must be at least 0, got -1"),
        ({"held_out": 1.0}, "--held-out must be below 1, got 1.0"),
        ({"kind": "c"}, "--kind must be one of a, b, got c"),
        ({"kind": "b", "padded": False}, "--kind b needs --padded"),
    ],
)
def test_what_is_out_of_range_is_an_error_of_the_argument(options, message):
    with pytest.raises(ArgumentError) as caught:
        step(Path("x"), **options)
    assert str(caught.value) == message
    assert isinstance(caught.value, RetrievalError)
    assert isinstance(caught.value, ValueError)


def command():
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    def run(**arguments):
        print(step(**arguments))

    run.__signature__ = typer_signature(step)
    run.__annotations__ = {name: parameter.annotation for name, parameter in run.__signature__.parameters.items()}
    app.command()(run)
    return app


def test_the_command_has_every_field():
    found = CliRunner().invoke(command(), ["x", "--epochs", "3", "--exact", "--rate", "0.1"])
    assert found.exit_code == 0, found.output
    assert found.output.strip() == str(Made(Path("x"), epochs=3, padded=False, rate=0.1))
    shown = " ".join(CliRunner().invoke(command(), ["--help"], terminal_width=200).output.split())
    assert "Epochs in total. [at least 1]" in shown
    assert "Kind. [one of a, b]" in shown
    assert "--exact" in shown


def test_fingerprint_and_facts():
    options = Made(Path("x"), epochs=2)
    assert options.resumed() == {"epochs": 2, "kind": "a"}
    assert options.facts() == {
        "source": "x", "epochs": 2, "rate": None, "share": 0.5, "held_out": 0.5, "kind": "a", "padded": True,
        "more": None, "names": None,
    }  # fmt: skip
    assert "source" not in options.facts(arguments=False)
    assert options.facts(arguments=False) == {name: options.facts()[name] for name in options.facts(arguments=False)}


def test_help_and_signature():
    assert help_texts(step)["share"] == "Share. [at least 0, at most 1]"
    assert help_texts(step)["held_out"] == "Held out. [at least 0, below 1]"
    names = ["source", "epochs", "rate", "share", "held_out", "kind", "padded", "more", "names"]
    assert list(inspect.signature(step).parameters) == names


def test_large_limits_are_written_out():
    assert Option("Seed.", at_most=2**31 - 1).text() == "Seed. [at most 2147483647]"
    with pytest.raises(ArgumentError, match="--seed must be at most 2147483647, got 2147483648"):
        Option("Seed.", at_most=2**31 - 1).check("seed", 2**31)


def test_a_field_without_a_declaration_is_a_mistake_of_ours():
    @dataclass(frozen=True, kw_only=True)
    class Bare(Options):
        size: int = 3

    with pytest.raises(TypeError, match=r"Bare\.size needs one Option"):
        declarations(Bare)


@dataclass(frozen=True, kw_only=True)
class PathOptions(Options):
    """Options of a step with an argument and an option that are paths."""

    photos: Annotated[Path, Argument("Folder.")] = field(kw_only=False)
    state: Annotated[Path | None, Option("Folder.")] = None
    title: Annotated[str, Option("Title.")] = ""
    watch: Annotated[bool, Option("Whether it is watched.")] = True


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([""], "PHOTOS"),
        (["--watch", ""], "PHOTOS"),
        (["a", "--state", ""], "--state"),
        (["a", "--state="], "--state"),
        (["--title", "", ""], "PHOTOS"),
    ],
)
def test_an_empty_path_on_the_command_line_is_refused(words, named):
    with pytest.raises(ArgumentError, match=f"{named} is empty"):
        check_no_path_is_empty(PathOptions, words)


@pytest.mark.parametrize("words", [["a", "--title", ""], ["a", "--title="], ["."], [], ["a", "--unknown="]])
def test_other_empty_words_are_the_steps_own(words):
    check_no_path_is_empty(PathOptions, words)


@pytest.mark.parametrize("values", [{"photos": ""}, {"photos": "a", "state": ""}])
def test_an_empty_path_from_python_is_refused(values):
    with pytest.raises(ArgumentError, match="is empty: name a file or folder"):
        PathOptions(**values)
