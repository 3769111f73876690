"""Addresses of collections: parsed, printed without the password, and refused with the supported forms."""

import pytest

from export.milvus_index.address import Address, parse_address


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ("milvus://host:19530/photos", "http://host:19530"),
        ("milvus://host:19530/database/photos", "http://host:19530/database"),
        ("milvus+tls://user:secret@host/photos", "https://user:secret@host"),
        ("milvus:///folder/photos.db/photos", "/folder/photos.db"),
    ],
)
def test_addresses(place, uri):
    address = parse_address(place)
    assert address == Address(uri, "photos")
    assert parse_address(str(address)).collection == "photos"
    assert "secret" not in str(address)


@pytest.mark.parametrize(
    "place",
    ["milvus://host:19530", "milvus://host/a-b", "milvus:///photos", "milvus://h/a/b/c", "milvus+tls:///a.db/b"],
)
def test_what_is_no_address_is_told(place):
    with pytest.raises(ValueError, match=r"milvus://HOST:19530/COLLECTION"):
        parse_address(place)
