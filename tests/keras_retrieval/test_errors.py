"""The errors of the library: one base, and the message about a missing extra."""

import pytest

import keras_retrieval
from keras_retrieval.errors import ArgumentError, MissingExtraError, RetrievalError, missing_extra


def test_errors_are_built_in_ones_as_well():
    assert issubclass(ArgumentError, RetrievalError)
    assert issubclass(ArgumentError, ValueError)
    assert issubclass(MissingExtraError, RetrievalError)
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, 'ScaNN is not installed: pip install "keras-retrieval[index]"'),
        (ModuleNotFoundError("no scann"), 'ScaNN is not installed: pip install "keras-retrieval[index]"'),
        (ImportError("GLIBC"), 'ScaNN cannot be imported (GLIBC): pip install "keras-retrieval[index]"'),
    ],
)
def test_a_missing_package_is_distinguished_from_a_broken_one(error, message):
    made = missing_extra("ScaNN", "index", error)
    assert isinstance(made, MissingExtraError)
    assert str(made) == message


def test_the_package_lists_its_names_and_no_others():
    assert set(keras_retrieval.__all__) <= set(dir(keras_retrieval))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_retrieval.nothing
