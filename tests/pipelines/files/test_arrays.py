"""Arrays in files are read although Python's parser of their headers fails now and then in threads."""

import ast

import numpy as np
import pytest

from pipelines.files.arrays import load_array, map_array

ROWS = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


@pytest.fixture
def failing(monkeypatch):
    """Sets how many of the next headers cannot be parsed."""
    left, parse = [0], ast.literal_eval

    def parsed(text):
        left[0] -= 1
        if left[0] >= 0:
            raise SystemError("AST constructor recursion depth mismatch (before=48, after=45)")
        return parse(text)

    monkeypatch.setattr("ast.literal_eval", parsed)

    def fail(times):
        left[0] = times

    return fail


@pytest.mark.parametrize("read", [load_array, lambda path: load_array(path, mapped=True), map_array])
def test_a_header_that_could_not_be_parsed_is_parsed_again(path, failing, read):
    failing(2)
    np.testing.assert_array_equal(read(path), ROWS)


@pytest.mark.parametrize("read", [load_array, map_array])
def test_an_interpreter_that_never_parses_is_an_error(path, failing, read):
    failing(1000)
    with pytest.raises(SystemError, match="recursion depth"):
        read(path)
