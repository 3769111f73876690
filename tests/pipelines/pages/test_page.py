"""The page is whole in itself, says what it is given and nothing else, whatever the names."""

import base64
import io
import re

import numpy as np
from PIL import Image

from pipelines.pages.page import Neighbour, Result, page

NASTY = ['</script><script>alert("x")</script>', "{facts}", "a'b\"c", "&amp;", "x\ny", "%s \\u003c", "]];//"]


def picture(name):
    return np.full((9, 12, 3), sum(map(ord, name)) % 256, np.uint8)


def pictures(text):
    (found,) = re.findall(r"const photos = \[(.*?)\];", text, re.DOTALL)
    return found.split(",\n")


def test_each_picture_is_asked_for_once_and_is_in_the_page():
    asked = []

    def counting(name):
        asked.append(name)
        return picture(name)

    results = [Result("a", [Neighbour("b", 0.5), Neighbour("c", 0.25)]), Result("b", [Neighbour("a", 0.5)])]
    text = page("T", [], results, counting)
    assert sorted(asked) == ["a", "b", "c"]
    for name, data in zip(asked, pictures(text), strict=True):
        inside = Image.open(io.BytesIO(base64.b64decode(data.strip('"').split(",")[1])))
        assert inside.size == (12, 9)
        assert abs(int(np.asarray(inside).mean()) - int(picture(name).mean())) <= 1
    shown = re.findall(r'data-photo="(\d)" alt="(\w)"', text)
    assert [name for _, name in shown] == ["a", "b", "c", "b", "a"]
    assert all(asked[int(number)] == name for number, name in shown)


def test_scores_marks_and_notes_are_shown():
    neighbours = [Neighbour("b", 0.87654, True), Neighbour("c", -0.5, False), Neighbour("d", 0.1)]
    text = page("My title", ["fact one", "fact two"], [Result("a", neighbours, "AP 50")], picture)
    assert re.findall(r'<figure class="(\w*)">', text) == ["query", "right", "wrong", ""]
    assert re.findall(r"<figcaption><b>(.*?)</b> (\w)<", text) == [
        ("AP 50", "a"),
        ("0.877", "b"),
        ("-0.500", "c"),
        ("0.100", "d"),
    ]
    assert "<title>My title</title>" in text
    assert "<span>fact one</span><span>fact two</span>" in text


def test_nothing_is_loaded_from_elsewhere():
    text = page("T", [], [Result("a", [Neighbour("b", 1.0)])], picture)
    assert not re.search(r"https?:|//cdn|@import|<link|\bsrc=\"", text)


def test_names_cannot_become_code():
    results = [Result(name, [Neighbour(name, 1.0)], note=name) for name in NASTY]
    text = page(NASTY[0], NASTY, results, picture)
    assert text.count("<script>") == text.count("</script>") == 1
    assert "&lt;/script&gt;&lt;script&gt;alert(&quot;x&quot;)" in text
    assert 'title="a&#x27;b&quot;c"' in text
    assert "&amp;amp;" in text
    assert text.count("{facts}") == 8


def test_a_picture_that_cannot_be_read_is_an_empty_place():
    def broken(name):
        if name == "b":
            raise FileNotFoundError(name)
        if name == "c":
            raise ValueError(name)
        return picture(name)

    text = page("T", [], [Result("a", [Neighbour("b", 0.5), Neighbour("c", 0.5)])], broken)
    shown = {name: pictures(text)[int(number)] for number, name in re.findall(r'data-photo="(\d)" alt="(\w)"', text)}
    assert shown["b"] == shown["c"] == '""'
    assert shown["a"].startswith('"data:image/jpeg;base64,')


def test_a_page_of_nothing_is_a_page():
    text = page("T", [], [], picture)
    assert pictures(text) == [""]
    assert "<section" not in text
