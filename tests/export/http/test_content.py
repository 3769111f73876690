"""Responses that are compressed or replaced by 304, only where the client allows it."""

import gzip

import pytest

from export.http.content import accepts_gzip, reduced
from export.http.messages import Request, Response, etag

TEXT = "a long text " * 200


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("br;q=1, *;q=0.1", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=x", False),
        ("*;q=0", False),
    ],
)
def test_accept_encoding(header, accepted):
    assert accepts_gzip({"accept-encoding": header}) == accepted


@pytest.mark.parametrize("kind", ["application/json", "text/css; charset=utf-8", "image/svg+xml"])
def test_text_is_compressed_for_those_who_accept_it(kind):
    response = Response(200, TEXT, kind, {"A": "b"})
    small = reduced(Request("GET", "/", headers={"accept-encoding": "gzip"}), response)
    assert gzip.decompress(small.body).decode() == TEXT
    assert small.headers == {"A": "b", "Vary": "Accept-Encoding", "Content-Encoding": "gzip"}
    plain = reduced(Request("GET", "/"), response)
    assert plain.body == TEXT.encode()
    assert plain.headers == {"A": "b", "Vary": "Accept-Encoding"}


@pytest.mark.parametrize(
    "response", [Response(200, TEXT.encode(), "image/jpeg"), Response(200, "short"), Response(404, "", "text/html")]
)
def test_pictures_and_short_texts_stay(response):
    assert reduced(Request("GET", "/", headers={"accept-encoding": "gzip"}), response) == response


def test_what_the_client_has_is_not_sent_again():
    tag = etag("x", b"y", 3)
    response = Response(200, TEXT, headers={"ETag": tag})
    for names in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        for method in ("GET", "HEAD"):
            found = reduced(Request(method, "/", headers={"if-none-match": names}), response)
            assert (found.status, found.body, found.headers["ETag"]) == (304, b"", tag)
    assert reduced(Request("GET", "/", headers={"if-none-match": etag("z")}), response).status == 200
    assert reduced(Request("POST", "/", headers={"if-none-match": tag}), response).status == 200


def test_a_tag_changes_with_each_part():
    tags = [etag(), etag("a"), etag("b"), etag("a", "b"), etag("ab"), etag("a", 1), etag(b"a", b"1", b"")]
    assert len({*tags}) == len(tags)
    assert etag("a", 1) == etag("a", 1)
