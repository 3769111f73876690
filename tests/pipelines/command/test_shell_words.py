"""Errors name options on the shell and arguments in Python."""

from pathlib import Path
from typing import Annotated

import pytest
import typer

from pipelines.command.shell_words import in_shell_words
from pipelines.networks.build import build


def step(
    output: Annotated[Path, typer.Argument(help="A file.")],
    *,
    weights: Annotated[str, typer.Option(help="Weights.")] = "imagenet",
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    lr_decay: Annotated[float | None, typer.Option(help="Decay.")] = None,
    mirror: Annotated[bool, typer.Option(help="Mirror photos.")] = False,
    exact: Annotated[bool, typer.Option("--exact/--padded", help="One size.")] = False,
) -> None: ...


def parameters(function):
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return typer.main.get_command(app).params


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("give weights=None or the path of a file", "give --weights none or the path of a file"),
        ("give weights='a.h5', or lr_decay=0.5", "give --weights a.h5, or --lr-decay 0.5"),
        ("lr_decay must be at least 0, got -1", "--lr-decay must be at least 0, got -1"),
        ("k of the graph must be at least 1, got 0", "-k of the graph must be at least 1, got 0"),
        ("output must be a file", "OUTPUT must be a file"),
        ("mirror=True needs exact=False", "--mirror needs --padded"),
        ("mirror=False does not fit exact=True", "--no-mirror does not fit --exact"),
        ("dim must be at least 1, p=3", "dim must be at least 1, p=3"),
        ("the weights do not fit: no k", "the weights do not fit: no k"),
        ("top_k=3, a.k=3, --weights=None", "top_k=3, a.k=3, --weights=None"),
    ],
)
def test_arguments_of_the_step_become_its_options(message, shown):
    assert in_shell_words(message, parameters(step)) == shown


def test_a_command_without_parameters_changes_nothing():
    assert in_shell_words("=3 must be x=4", []) == "=3 must be x=4"


def test_an_error_of_the_library_names_the_options_of_build():
    assert in_shell_words("levels of the grid of regions must be at least 1, got 0", parameters(build)).startswith(
        "--levels of"
    )
    assert (
        in_shell_words("give normalization='caffe' (Keras)", parameters(build)) == "give --normalization caffe (Keras)"
    )
