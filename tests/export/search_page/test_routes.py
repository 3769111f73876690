"""The page's HTTP interface: its documents, its files, photos and thumbnails, and requests that are refused."""

import io
import json
import re
import unicodedata
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from PIL import Image

from export.http.messages import Request
from export.search_page.catalogue import Catalogue
from export.search_page.routes import SearchPage
from export.search_page.source import Status, Training
from tests.helpers.page_source import NATURAL, NEW


def get(page, path, **parameters):
    """Status, headers and body of a request; a dict or a list in place of JSON."""
    answer = page.answer(Request("GET", path, urlencode(parameters, doseq=True)))
    return answer.status, answer.headers, json.loads(answer.body) if "json" in answer.content_type else answer.body


def names(page, **parameters):
    status, _, found = get(page, "/photos.json", **parameters)
    assert status == 200
    return [photo["name"] for photo in found["photos"]]


def test_the_page_and_its_files_need_nothing_of_other_servers(page):
    static = sorted(file.name for file in (resources.files("export.search_page") / "static").iterdir())
    texts = {}
    for path in ("/", *(f"/static/{name}" for name in static), "/static/style.css"):
        answer = page.answer(Request("GET", path))
        assert answer.status == 200
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["ETag"]
        texts[path] = answer.body.decode()
    for path, text in texts.items():
        if not path.endswith(".json"):
            assert set(re.findall(r"\w+://\w[^\"'` ]*", text)) <= {"http://www.w3.org/2000/svg"}
    addresses = re.findall(r'(?:href|src)="([^"#]+)"', texts["/"])
    assert addresses
    assert not [address for address in addresses if address.startswith("/")]  # so that a base path is no obstacle
    for address in addresses:
        if not address.startswith("data:"):
            assert f"/{address}" in texts


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/none.js",
        "/static/../routes.py",
        "/static/..%2Froutes.py",
        "/static/.hidden.js",
        "/static/a/b",
    ],
)
def test_other_files_are_not_found(page, path):
    answer = page.answer(Request("GET", path))
    assert answer.status == 404
    assert json.loads(answer.body)["error"]


@pytest.mark.parametrize("query", ["after", "before", "sort", "count", "stack_of", "searchable"])
def test_an_error_does_not_repeat_a_long_value(page, query):
    answer = page.answer(Request("GET", "/photos.json", f"{query}={'9' * 5000}"))
    assert answer.status == 400
    assert len(json.loads(answer.body)["error"]) <= 400


def test_what_is_not_of_the_page_is_passed_on(page):
    for path in ("/v1/models", "/about", "/photos", "/thumbnails", "/favicon.ico", "", "//", "/monitoring/x"):
        assert page.answer(Request("GET", path)) is None
    for method, path, allowed in (
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/photos.json", "GET, HEAD"),
        ("GET", "/search.json", "POST"),
    ):
        answer = page.answer(Request(method, path))
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


def test_about_says_what_there_is(page, source):
    _, _, about = get(page, "/about.json")
    assert (about["title"], about["folder"], about["photos"]) == ("photos", str(source.folder.resolve()), 7)
    assert (about["network"], about["size"], about["limits"]) == ("small", 64, {"upload_bytes": 64 * 2**20})
    assert about["has"] == {
        "times": True, "positions": True, "folders": True, "columns": ["camera"], "stacks": False, "training": False,
    }  # fmt: skip
    assert about["reasons"]["5"].startswith("its box")
    assert "problem" not in about
    source.progress = Status(state="failed", message="The disk is full. Free some space and start again.")
    assert get(page, "/about.json")[2]["problem"] == source.progress.message


def test_the_folder_is_a_path_that_can_be_opened_from_anywhere(source, monkeypatch):
    """Copied paths and downloads begin with it, and a command is often given a relative one."""
    monkeypatch.chdir(source.folder.parent)
    whole, source.folder = source.folder, Path(source.folder.name)
    page = SearchPage(source)
    assert get(page, "/about.json")[2]["folder"] == str(whole.resolve())
    page.close()


def test_a_photo_that_was_left_out_has_its_reason(page, source):
    name = names(page)[0]
    source.reasons = {name: "truncated: the file ends too early"}
    source.photos = Catalogue(
        list(source.photos.names), {}, np.array([one != name for one in source.photos.names]), "2"
    )
    photos = get(page, "/photos.json")[2]["photos"]
    assert [photo["left_out"] for photo in photos if "left_out" in photo] == ["truncated: the file ends too early"]
    assert photos[0]["name"] == name


def test_the_status_is_that_of_the_source(page, source):
    source.progress = Status(
        state="working", step=2, steps=3, label="describing photos", done=5, total=9, rate=1.5, seconds_left=2.7,
        photos=9, searchable=5, left_out=1, message="", training=Training("ready", 0.5, 0.6, "mAP"),
    )  # fmt: skip
    assert get(page, "/status.json")[2] == {
        "version": "1", "state": "working", "step": 2, "steps": 3, "label": "describing photos", "done": 5, "total": 9,
        "rate": 1.5, "seconds_left": 2.7, "photos": 9, "searchable": 5, "left_out": 1, "message": "",
        "training": {"state": "ready", "before": 0.5, "after": 0.6, "measure": "mAP", "message": ""},
    }  # fmt: skip


def test_numbers_that_json_has_not_are_null(page, source):
    source.progress = Status(rate=float("inf"), seconds_left=float("nan"), training=Training("working", float("nan")))
    status = get(page, "/status.json")[2]
    assert (status["rate"], status["seconds_left"], status["training"]["before"]) == (None, None, None)


def test_a_name_in_another_unicode_form_finds_its_file(source):
    name = unicodedata.normalize("NFD", "b/ä & ?#%.jpg")
    (source.folder / "b/ä & ?#%.jpg").rename(source.folder / name)
    page = SearchPage(source)
    assert page.answer(Request("GET", f"/photos/{quote('b/ä & ?#%.jpg')}")).status == 200


def test_photos_are_listed_filtered_and_sorted(page):
    assert names(page) == [NEW, *NATURAL]
    assert names(page, searchable=1) == NATURAL
    assert names(page, start=2, count=2) == NATURAL[1:3]
    assert names(page, count=0) == names(page, start=100) == []
    assert names(page, folder="a") == ["a/IMG_9.jpg", "a/IMG_10.jpg", "a/b/x.jpg"]
    assert names(page, sort="time", folder="a") == ["a/IMG_10.jpg", "a/IMG_9.jpg", "a/b/x.jpg"]
    assert names(page, sort="time-desc", count=4) == ["a/b/x.jpg", "a/IMG_9.jpg", "a/IMG_10.jpg", "top.jpg"]
    assert names(page, **{"column.camera": ["Pixel", ""], "text": "Y.jpg"}) == ["b/y.jpg"]
    assert names(page, area="-20,170,0,-170") == NATURAL[4:]
    found = get(page, "/photos.json", folder="b")[2]
    assert (found["version"], found["total"], found["start"]) == ("1", 2, 0)
    assert found["photos"][0] == {
        "name": "b/ä & ?#%.jpg", "searchable": True, "time": None, "latitude": -17.7, "longitude": 179.5, "columns": {},
    }  # fmt: skip
    assert get(page, "/row.json", name="a/IMG_9.jpg", folder="a", sort="time")[2] == {"version": "1", "row": 1}
    assert get(page, "/row.json", name="top.jpg", folder="a")[2]["row"] is None
    assert get(page, "/names.json", folder="a", start=1)[2] == {
        "version": "1", "total": 3, "start": 1, "names": ["a/IMG_10.jpg", "a/b/x.jpg"],
    }  # fmt: skip
    assert get(page, "/names.json", count=2)[2]["names"] == [NEW, "top.jpg"]
    summary = get(page, "/summary.json", folder="a")[2]
    assert get(page, "/summary.json", folder="a", columns=0)[2] == {
        name: part for name, part in summary.items() if name != "columns"
    }
    assert (summary["version"], summary["total"], summary["folders"][0]) == ("1", 3, {"path": "a", "count": 3})
    assert get(page, "/left_out.json")[2] == {
        "total": 1, "files": [{"name": "broken.jpg", "reason": "truncated: the file ends too early"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("/photos.json", {"sort": "size"}, "sort must be one of name, time, time-desc, got 'size'."),
        ("/photos.json", {"count": "2001"}, "count must be a whole number from 0 to 2000, got '2001'."),
        ("/photos.json", {"start": "-1"}, "start must be a whole number of at least 0, got '-1'."),
        ("/photos.json", {"start": "9" * 40}, "start must be a whole number"),
        ("/photos.json", {"start": "²"}, "start must be a whole number"),
        ("/photos.json", {"stacks": "2"}, "stacks must be 0 or 1"),
        ("/photos.json", {"stack_of": "none.jpg"}, "stack_of: none.jpg is not among the photos."),
        ("/photos.json", {"column.town": "x"}, "column.town: the index has no column 'town'"),
        ("/row.json", {"name": "none.jpg"}, "name: none.jpg is not among the photos."),
        ("/row.json", {}, "name: it is missing"),
        ("/summary.json", {"cells": "0"}, "cells must be a whole number from 1 to 200, got '0'."),
        ("/summary.json", {"columns": "no"}, "columns must be 0 or 1, got 'no'."),
        ("/summary.json", {"area": "1,2"}, "area must be four numbers"),
        ("/thumbnails/top.jpg", {"side": "300"}, "side must be one of 256, 512, got 300."),
        ("/photos.json", {str(number): "" for number in range(1_001)}, "The query of the address cannot be read"),
    ],
)
def test_wrong_parameters_are_named(page, path, parameters, message):
    status, _, found = get(page, path, **parameters)
    assert (status, found["error"][: len(message)]) == (400, message)


def test_photos_and_thumbnails_are_found_by_name(page, source):
    for name in NATURAL:
        for path in (quote(name, safe=""), quote(name)):
            status, headers, body = get(page, f"/photos/{path}")
            assert (status, body) == (200, (source.folder / name).read_bytes())
            assert headers["X-Content-Type-Options"] == "nosniff"
            thumbnail = page.answer(Request("GET", f"/thumbnails/{path}", "side=512"))
            assert (thumbnail.status, thumbnail.content_type) == (200, "image/jpeg")
            assert Image.open(io.BytesIO(thumbnail.body)).size == (80, 60)
    tag = thumbnail.headers["ETag"]
    again = page.answer(Request("GET", f"/thumbnails/{path}", "side=512", {"if-none-match": tag}))
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert page.answer(Request("GET", f"/thumbnails/{path}", "side=256")).headers["ETag"] != tag


NOWHERE = [
    "",
    "none.png",
    "../secret.jpg",
    "..%2Fsecret.jpg",
    "%2e%2e/secret.jpg",
    "a/../top.jpg",
    "./top.jpg",
    "%2Fetc%2Fpasswd",
    "/etc/passwd",
    "top.jpg%00",
    "a",
    "%FF%FE",
    "unlisted.jpg",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_a_name_is_no_way_to_other_files(page, source, path):
    content = (source.folder / "top.jpg").read_bytes()
    for secret in (source.folder.parent / "secret.jpg", source.folder / "unlisted.jpg"):
        secret.write_bytes(content)
    for prefix in ("/photos/", "/thumbnails/"):
        assert page.answer(Request("GET", prefix + path)).status == 404


def test_a_name_of_the_index_outside_the_folder_is_no_way_out(source):
    secret = source.folder.parent / "secret.jpg"
    secret.write_bytes((source.folder / "top.jpg").read_bytes())

    class All(dict):
        def __contains__(self, name):
            return True

    source.photos.__dict__["row_of"] = All()
    page = SearchPage(source)
    assert page.answer(Request("GET", "/photos/top.jpg")).status == 200
    for path in ("..%2Fsecret.jpg", quote(str(secret), safe=""), "a%2F..%2F..%2Fsecret.jpg", "a", "", "top.jpg%00"):
        assert page.answer(Request("GET", f"/photos/{path}")).status == 404
        assert page.answer(Request("GET", f"/thumbnails/{path}")).status == 404


def test_pictures_follow_their_files(page, source):
    path = source.folder / "top.jpg"
    before = page.answer(Request("GET", "/thumbnails/top.jpg"))
    content = path.read_bytes()
    Image.new("RGB", (800, 400)).save(path, "TIFF")
    answer = page.answer(Request("GET", "/photos/top.jpg"))
    assert (answer.status, answer.content_type) == (200, "image/jpeg")  # no browser shows TIFF
    assert Image.open(io.BytesIO(answer.body)).size == (800, 400)
    after = page.answer(Request("GET", "/thumbnails/top.jpg", headers={"if-none-match": before.headers["ETag"]}))
    assert Image.open(io.BytesIO(after.body)).size == (256, 128)
    path.write_bytes(content[:90])
    assert page.answer(Request("GET", "/thumbnails/top.jpg")).status == 404
    path.unlink()
    assert page.answer(Request("GET", "/photos/top.jpg")).status == 404


def test_links_out_of_the_folder_are_not_shown(page, source, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    Image.new("RGB", (40, 30)).save(outside / "secret.jpg")
    inside = source.folder / "inside.jpg"
    Image.new("RGB", (40, 30)).save(inside)
    link = source.folder / "top.jpg"
    for target, status in ((inside, 200), (outside / "secret.jpg", 404), ("/dev/zero", 404)):
        link.unlink()
        link.symlink_to(target)
        for prefix in ("/photos/", "/thumbnails/"):
            assert page.answer(Request("GET", f"{prefix}top.jpg")).status == status, target


def test_a_photo_folder_that_is_a_link_is_shown(page, source, tmp_path):
    (tmp_path / "link").symlink_to(source.folder)
    source.folder = tmp_path / "link"
    assert page.answer(Request("GET", "/photos/top.jpg")).status == 200


def test_stacks_take_one_place_in_a_listing(source):
    source.searched.delete(NATURAL)
    axes = np.concatenate([np.eye(8), -np.eye(8)]).astype(np.float32)
    source.searched.add(["top.jpg", "copy 1.jpg", "copy 2.jpg", "copy 3.jpg"], axes[[0, 0, 0, 0]])
    source.searched.add([f"x{number}.jpg" for number in range(15)], axes[1:])
    times = ["2020-01-01" if "copy" in name else "2019" for name in source.searched.names]
    source.photos = type(source.photos)(source.searched.names, {"time": times}, version="2")
    page = SearchPage(source)
    get(page, "/about.json")  # the search for stacks begins
    page._stacks.wait(20)
    about = get(page, "/about.json")[2]
    assert about["has"]["stacks"] is True
    assert about["version"] != "2"
    first = next(photo for photo in get(page, "/photos.json", stacks=1)[2]["photos"] if photo["name"] == "copy 1.jpg")
    assert first["stack"] == {"count": 4, "kind": "copies"}
    assert "top.jpg" not in names(page, stacks=1)
    assert "top.jpg" in names(page)
    assert names(page, stack_of="top.jpg", stacks=1) == ["copy 1.jpg", "copy 2.jpg", "copy 3.jpg", "top.jpg"]
    summary = get(page, "/summary.json", stacks=1)[2]
    assert summary["total"] == 19
    # The stack is represented by its earliest photo, which is of 2019, so that no photo of 2020 is listed.
    assert [bar["count"] for bar in summary["times"]["bins"]] == [16]
    assert [(bar["count"], bar["row"]) for bar in get(page, "/summary.json")[2]["times"]["bins"]] == [(16, 0), (3, 16)]
    place = names(page, stacks=1).index("copy 1.jpg")
    assert get(page, "/row.json", name="top.jpg", stacks=1)[2]["row"] == place
    page.close()
