"""The kind of the option --host."""

import pytest

from export.http.hosts import address_to_listen_on
from keras_retrieval.errors import ArgumentError


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "0.0.0.0", "::1", "localhost", "my-machine.example.org", "bücher.example"]
)
def test_addresses_that_can_be(text):
    address_to_listen_on("--host", text)


@pytest.mark.parametrize("text", ["", " ", "a b", "ü..x", "x" * 300, "a\0", "a\n"])
def test_addresses_that_cannot_be(text):
    with pytest.raises(ArgumentError, match="--host must be an address of this machine"):
        address_to_listen_on("--host", text)
