"""The examples in docstrings of the library run and give the output that they show."""

import ast
import doctest
import inspect
import pkgutil
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import keras_retrieval
from keras_retrieval import layers, losses
from keras_retrieval.networks import anchor_targets, multi_scale, optimizer, padded, proposal_model, tuple_model

PARSER = doctest.DocTestParser()


def documented():
    """(name, docstring) of every public class and function of the library that has an example."""
    found = {}
    for module in pkgutil.walk_packages(keras_retrieval.__path__, "keras_retrieval."):
        if module.name.endswith("__main__") or module.name.split(".")[1] in ("pipelines", "export"):
            continue
        for name, thing in vars(__import__(module.name, fromlist=["x"])).items():
            if inspect.isclass(thing) or inspect.isfunction(thing):
                text = thing.__doc__ or ""
                if ">>>" in text and thing.__module__.startswith("keras_retrieval."):
                    found[f"{thing.__module__}.{name}"] = text
    return found


EXAMPLES = documented()
NAMES = (layers, losses, anchor_targets, multi_scale, optimizer, padded, proposal_model, tuple_model)


SECTIONS = ["Args:", "Input shape:", "Output shape:", "Call arguments:", "Raises:", "Example:", "References:"]
PUBLIC = [thing for room in (layers, losses) for thing in vars(room).values() if inspect.isclass(thing)]


def test_every_public_layer_and_loss_has_an_example():
    assert len(PUBLIC) > 20
    assert [thing.__name__ for thing in PUBLIC if ">>>" not in (thing.__doc__ or "")] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_shows(name):
    library = SimpleNamespace(build=partial(keras_retrieval.build, weights=None))  # downloads nothing
    known = {"np": np, "keras_retrieval": library, "losses": losses}
    known |= {key: value for room in NAMES for key, value in vars(room).items() if callable(value)}
    for example in PARSER.get_examples(EXAMPLES[name]):
        if not example.want:
            exec(example.source, known)
            continue
        shown, found = ast.literal_eval(example.want), eval(example.source, known)
        if isinstance(shown, tuple):
            assert found == shown
        else:
            np.testing.assert_allclose(np.asarray(found), shown, atol=1e-5)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_layers_and_losses_have_their_sections_in_one_order(thing):
    lines = (inspect.getdoc(thing) or "").splitlines()
    found = [line for line in lines if line in SECTIONS]
    assert found == [section for section in SECTIONS if section in found]
    needed = ["Input shape:", "Output shape:"] if issubclass(thing, keras.layers.Layer) else ["Call arguments:"]
    assert set(needed) <= set(found)
    assert lines[0].endswith((".", ":"))


def test_a_file_holds_one_public_layer():
    files = [thing.__module__ for thing in vars(layers).values() if inspect.isclass(thing)]
    assert len(files) == len(set(files)) > 10
