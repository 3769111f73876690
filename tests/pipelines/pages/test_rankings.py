"""A page of rankings is self-contained and shows exactly the given values, for any names."""

import base64
import io
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from pipelines.files import remote as remote_files
from pipelines.files.remote import RemoteError, RemoteFolder
from pipelines.pages import rankings
from pipelines.pages.charts import over_epochs
from pipelines.pages.rankings import Case, Hit, Picture, page, percent
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_network import draw_photo

NASTY = ['</script><script>alert("x")</script>', "{{ facts }}{{7*6}}", "a'b\"c", "&amp;", "%s \\u003c", "]];//"]


def photo(folder, name):
    path = folder / f"{name}.png"
    Image.fromarray(np.full((9, 12, 3), sum(map(ord, name)) % 256, np.uint8)).save(path)
    return Picture(path, name=name)


class Parsed(HTMLParser):
    """The pictures of a page as (CSS class, name), and its texts."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.texts, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        if found.get("role") == "img" and tag == "div":
            assert found["aria-label"] == found["title"]
            self.pictures.append((found["class"].removeprefix("photo "), found["title"]))

    def handle_data(self, data):
        self.texts.append(data)


def thumbnails(text):
    """CSS class -> bytes."""
    rules = re.findall(r"^\.(p\d+) \{ background-image: url\(data:image/jpeg;base64,([^)]+)\)", text, re.MULTILINE)
    return {css: base64.b64decode(data) for css, data in rules}


def test_each_picture_is_in_the_page_once(tmp_path):
    a, b, c = (photo(tmp_path, name) for name in "abc")
    text = page("k", "T", [], cases=[Case(a, "", [Hit(b), Hit(c)]), Case(b, "", [Hit(a)])])
    pictures, data = Parsed(text).pictures, thumbnails(text)
    assert [name for _, name in pictures] == ["a", "b", "c", "b", "a"]
    assert text.count("base64,") == len(data) == 3
    for css, name in pictures:
        inside = Image.open(io.BytesIO(data[css]))
        assert inside.size == (12, 9)
        assert abs(int(np.asarray(inside).mean()) - ord(name)) <= 1


def test_captions_marks_and_notes_are_shown(tmp_path):
    hits = [Hit(photo(tmp_path, "b"), "right", "0.877"), Hit(photo(tmp_path, "c"), "wrong", "-0.500"),
            Hit(photo(tmp_path, "d"), "junk"), Hit(photo(tmp_path, "e"))]  # fmt: skip
    text = page("search", "My title", ["fact one", "fact two"], cases=[Case(photo(tmp_path, "a"), "AP 50", hits)])
    assert re.findall(r'<figure class="(\w*)">', text) == ["query", "right", "wrong", "junk", ""]
    assert re.findall(r"<figcaption><b>(.*?)</b> (\w)<", text) == [
        ("AP 50", "a"),
        ("0.877", "b"),
        ("-0.500", "c"),
        ("3", "d"),
        ("4", "e"),
    ]
    assert "<title>My title</title>" in text
    assert "<li>fact one</li><li>fact two</li>" in text


def test_nothing_is_loaded_from_elsewhere(tmp_path):
    chart = over_epochs("c", {"a": [1, 2]})
    text = page("k", "T", [], charts=[chart, None], cases=[Case(photo(tmp_path, "a"), "", [])])
    assert not re.search(r"https?:|//cdn|@import|<link|\bsrc=|<script", text)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert text.count('<figure class="chart">') == 1


def test_names_cannot_become_code(tmp_path):
    cases = [Case(Picture(tmp_path, name=name), name, [Hit(Picture(tmp_path, name=name), "", name)]) for name in NASTY]
    text = page(NASTY[0], NASTY[0], NASTY, table={name: {name: 0.5} for name in NASTY}, cases=cases, legend=NASTY[0])
    parsed = Parsed(text)
    assert "script" not in parsed.tags
    assert [name for _, name in parsed.pictures] == [name for name in NASTY for _ in range(2)]
    assert set(NASTY) <= set(parsed.texts)
    assert "&amp;amp;" in text


def test_names_with_invisible_characters_are_shown_safely(tmp_path):
    names = {
        "x\ny\x00": "x␊y␀",
        "\x7f\x85": "␡\\x85",
        "gpj.\u202eexe": "gpj.\\u202eexe",
        "\udcff": "\\udcff",
        "é日": "é日",
    }
    cases = [Case(Picture(tmp_path, name=name), "", []) for name in names]
    text = page("k", "T", [], cases=cases)
    assert [name for _, name in Parsed(text).pictures] == list(names.values())
    text.encode()


def test_a_picture_that_cannot_be_read_is_an_empty_place(tmp_path):
    (tmp_path / "c.png").write_bytes(b"broken")
    hits = [Hit(Picture(tmp_path / "b.png")), Hit(Picture(tmp_path / "c.png"))]
    text = page("k", "T", [], cases=[Case(photo(tmp_path, "a"), "", hits)])
    assert Parsed(text).pictures == [("p0", "a"), ("unread", "b.png"), ("unread", "c.png")]
    assert len(thumbnails(text)) == 1


def test_pictures_at_an_address_are_those_of_a_folder(tmp_path, monkeypatch, caplog):
    pytest.importorskip("fsspec")
    here = photo(tmp_path, "a b#%?é")
    here = replace(here, box=(1, 1, 8, 8))
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path, "bucket/photos")
        there = [Path("faulty://bucket/photos") / name for name in (here.path.name, "gone.png")]
        local, remote, gone = (page("x", "x", [], cases=[Case(one, "", [])]) for one in (
            here, replace(here, path=there[0]), replace(here, path=there[1])))  # fmt: skip
        assert thumbnails(local) == thumbnails(remote) != {}
        assert thumbnails(gone) == {}
        RemoteFolder("faulty://bucket").write("list.txt", f"photos/{here.path.name}".encode())
        listed = replace(here, path=Path("faulty://bucket/list.txt/photos") / here.path.name)
        assert thumbnails(page("x", "x", [], cases=[Case(listed, "", [])])) == thumbnails(local)
        faults.outage, began = (0.0, 1e9), faults.clock.now
        hits = [Hit(replace(here, path=there[0], box=(1, 1, 8, side))) for side in range(2, 40)]
        assert thumbnails(page("x", "x", [], cases=[Case(here, "", hits)])) == thumbnails(local)
        assert faults.clock.now - began < 2 * remote_files.PATIENCE
        assert caplog.text.count("the page lacks photos: faulty://bucket/photos/") == 1


def test_photos_that_fail_at_the_same_time_are_one_warning(monkeypatch):
    pytest.importorskip("fsspec")
    together, said = Barrier(4, timeout=60), []

    def fail(*_):
        together.wait()
        raise RemoteError("no answer")

    def warn(message):
        time.sleep(0.1)  # in which the others fail, too
        said.append(message)

    monkeypatch.setattr(rankings, "_thumbnail", fail)
    monkeypatch.setattr(rankings.log, "warning", warn)
    with faulty_storage(monkeypatch):
        first, *others = (Picture(Path(f"faulty://bucket/{number}.png")) for number in range(4))
        assert thumbnails(page("x", "x", [], cases=[Case(first, "", list(map(Hit, others)))])) == {}
    assert said == ["the page lacks photos: no answer"]


def test_a_page_of_nothing_is_a_page():
    text = page("k", "T", [])
    assert thumbnails(text) == {}
    assert "<section" not in text
    assert "<table" not in text


def test_names_on_a_page_are_text(tmp_path):
    path = draw_photo(tmp_path / "<b>&.png", 0, 0)
    case = Case(Picture(path), "<i>", [Hit(Picture(tmp_path / "gone.png"), "wrong")])
    text = page("evaluation", "<title>", ["a < b"], table={"all": {"mAP": 0.5, "N-S": None}}, cases=[case])
    assert "&lt;b&gt;&amp;.png" in text
    assert "<b>&." not in text
    assert "<i>" not in text
    assert "a &lt; b" in text
    assert "<td>50.00</td><td>-</td>" in text


def test_figures_are_printed_as_the_field_does():
    assert [percent("mAP", 0.4287), percent("mAP", None), percent("N-S", 3.5)] == ["42.87", "-", "3.50"]
