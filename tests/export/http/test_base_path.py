"""A server below a prefix: the prefix is removed, its own path gets a slash, and other paths are not found."""

import json

import pytest

from export.http.base_path import below, checked_base_path
from export.http.messages import Request, Response
from keras_retrieval.errors import ArgumentError


def echo(request):
    return Response(200, json.dumps([request.path, request.query]))


def test_the_prefix_is_removed():
    answer = below("/a/b", echo)
    assert json.loads(answer(Request("GET", "/a/b/", "q=1")).body) == ["/", "q=1"]
    assert json.loads(answer(Request("GET", "/a/b/x%2Fy")).body) == ["/x%2Fy", ""]
    assert json.loads(answer(Request("GET", "/a/b//x")).body) == ["//x", ""]
    for path in ("/", "/a", "/a/", "/a/bc", "/a/bc/", "//a/b/", "/A/b/", "a/b/"):
        assert answer(Request("GET", path)).status == 404
    assert below("", echo) is echo


def test_the_prefix_without_a_slash_leads_to_the_page():
    moved = below("/a/b", echo)(Request("GET", "/a/b", "x=1&y"))
    assert (moved.status, moved.headers["Location"]) == (307, "/a/b/?x=1&y")


@pytest.mark.parametrize(("text", "path"), [("", ""), ("/", ""), ("/photos", "/photos"), ("/a.b/c-d_~/", "/a.b/c-d_~")])
def test_paths_that_can_be(text, path):
    assert checked_base_path(text) == path


@pytest.mark.parametrize(
    "text", ["photos", "//host", "/a//b", "/a b", "/a?b", "/é", "/../a", "/./a", "http://x/y", "/a\n"]
)
def test_paths_that_cannot_be(text):
    with pytest.raises(ArgumentError, match="--base-path must be a path such as /photos, "):
        checked_base_path(text)
