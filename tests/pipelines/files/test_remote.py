"""Addresses: which are refused and how, and names that a listing must not lose."""

import re
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from keras_retrieval.errors import ArgumentError, MissingExtraError
from pipelines.files.address_list import address_list
from pipelines.files.remote import MissingFileError, RemoteError, RemoteFolder, address_of, check_address

pytest.importorskip("fsspec")

NAMES = ("a b.png", "100%.png", "a%20b.png", "x#y.png", "what?.png", "é.png", "line\nbreak.png", "a&amp;b.png",
         "w?y/#1/z%41.png", "<b>.png")  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "my photos é"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def web(photos) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(photos.parent)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def read(address):
    folder = RemoteFolder(address_of(address))
    return {name: folder.read(name).decode() for name in folder.files()}


@pytest.mark.parametrize("written", ["my photos é", "my%20photos%20%C3%A9/"])
def test_every_name_on_a_web_server_is_found_and_read(web, written):
    pytest.importorskip("aiohttp")
    assert read(f"{web}/{written}") == {name: name for name in NAMES}


def test_every_name_in_a_file_address_is_found_and_read(photos):
    strange = photos.rename(photos.with_name("what? 100% #1"))
    assert read(f"file://{strange}") == {name: name for name in NAMES}


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("s3:/bucket/a/", "s3://bucket/a"),
        ("S3A://bucket/a", "s3://bucket/a"),
        ("gcs://bucket", "gs://bucket"),
        ("file:///a/b", "file:///a/b"),
        ("/s3:/bucket", None),
        ("a/b", None),
    ],
)
def test_an_address_has_one_form(given, address):
    assert address_of(given) == address


def test_a_file_is_no_folder(photos):
    with pytest.raises(MissingFileError, match=r"a b\.png is a file, not a folder"):
        RemoteFolder(address_of(photos.as_uri().replace("%20", " ").replace("%C3%A9", "é") + "/a b.png")).files()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nosuch://x", "PHOTOS nosuch://x: there is no storage of the kind nosuch://"),
        ("http://host/p?q=1", "must be the address of a folder: write .* as %3F"),
        ("http://host/p#1", "must be the address of a folder"),
        ("http://host:99999/p", "is not an address: Port out of range"),
        ("http://[host/p", "is not an address"),
    ],
)
def test_addresses_that_cannot_be_are_refused_before_anything_is_asked(address, said):
    pytest.importorskip("aiohttp")
    with pytest.raises(ArgumentError, match=said):
        check_address("PHOTOS", address)


def test_the_extra_is_named_only_where_it_has_the_package(monkeypatch):
    import fsspec

    def missing(scheme):
        raise ImportError(f"Install the package of {scheme}")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(MissingExtraError, match=r"keras-retrieval\[cloud\]"):
        check_address("PHOTOS", "s3://bucket/photos")
    with pytest.raises(ArgumentError, match=r"fsspec cannot open abfs:// \(ImportError: Install the package of abfs"):
        check_address("PHOTOS", "abfs://bucket/photos")


@pytest.mark.parametrize("address", ["github://x", "filecache://x", "dir://x"])
def test_what_fsspec_raises_while_it_opens_an_address_names_the_address(address, monkeypatch):
    monkeypatch.setattr("pipelines.files.remote._DOUBT", 0)
    with pytest.raises(RemoteError, match=f"{address}: "):
        RemoteFolder(address).files()


def test_a_list_of_addresses_names_the_files(web, photos):
    pytest.importorskip("aiohttp")
    host = web.removeprefix("http://")
    folder = f"{web}/my%20photos%20%C3%A9"
    lines = ["# photos", "", "a b.png", "w?y/#1/z%41.png", f"{folder}/what%3F.png?token=s3cret", f"{web}/other/x.png"]
    (photos / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    (photos.parent / "other").mkdir()
    (photos.parent / "other" / "x.png").write_text("x")
    assert read(f"{folder}/list.txt") == {
        "a b.png": "a b.png",
        "w?y/#1/z%41.png": "w?y/#1/z%41.png",
        "what?.png": "what?.png",
        f"{host}/other/x.png": "x",
    }
    states = RemoteFolder(f"{folder}/list.txt").files()
    assert {size for size, _ in states.values()} == {1, 7, 9, 15}
    assert all(tag for _, tag in states.values())  # the time of each file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "is not a list of addresses in UTF-8"),
        (b"a.png\n../b.png", "line 2: ../b.png is neither an address nor a path below the list"),
        (b"https://", "line 1: https:// is neither"),
        (b"https://h/a?x=1\nhttps://h/a?x=2", "line 2: h/a is in an earlier line, with another address"),
    ],
)
def test_a_list_that_cannot_be_read_is_named_with_the_line(content, said):
    with pytest.raises(ArgumentError, match=rf"https://host/list\.txt.* {re.escape(said)}"):
        address_list("https://user:s3cret@host/list.txt", content)


def test_a_web_server_that_does_not_answer_is_not_taken_for_missing_files(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr("pipelines.files.remote._FIRST_WAIT", 0.001)
    (tmp_path / "a.png").write_text("a")
    failing = {"HEAD": 2, "GET": 2}

    class Failing(Quiet):
        def do_HEAD(self):
            self._answer("HEAD", super().do_HEAD)

        def do_GET(self):
            self._answer("GET", super().do_GET) if self.path.endswith("png") else super().do_GET()

        def _answer(self, method, answer):
            failing[method] -= 1
            self.send_error(503) if failing[method] >= 0 else answer()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Failing, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        files = RemoteFolder(f"http://127.0.0.1:{server.server_port}").files()
    finally:
        server.shutdown()
        server.server_close()
    assert files["a.png"][0] == 1
