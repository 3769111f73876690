"""The search page in a real browser: every function, by pointer and keyboard, on a desktop and a phone."""

import base64
import csv
import io
import json
import time
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from keras_retrieval.pipelines.local_features.verification import Match

from tests.helpers.browser import assert_accessible, assert_readable, chromium, requests, show

pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from export.http.bodies import BodyLimits
from export.http.guard import Guard
from export.http.host_names import HostNames
from export.http.http_server import HttpServer
from export.http.messages import NOT_FOUND
from export.http.tokens import Token
from export.index_contract.answers import Answers
from export.index_contract.calibration import Calibration, Curve
from export.index_contract.column_types import TYPES
from export.search_page.catalogue import Catalogue
from export.search_page.probabilities import Judge
from export.search_page.sign_in import STYLE, sign_in
from export.search_page.source import Training
from tests.helpers.browsed_page import COPIES, COUNT, PARIS, User, served

ALONE = COUNT - len(COPIES) + 1  # tiles where stacks are collapsed
DESKTOP = 1280
TILES = "document.querySelectorAll('#grid [role=option]:not(.parked)')"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with served(tmp_path_factory.mktemp("page")) as service:
        yield service


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        browser.execute_cdp_cmd(
            "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        )
        yield browser


@pytest.fixture
def user(browser, service):
    """A user, whose page must not log anything."""
    service.source.reset()
    service.searches.clear()
    show(browser, DESKTOP, "light")
    browser.get_log("browser")
    user = User(browser, service)
    yield user
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert [one for one in messages if not getattr(user, "may_log", None) or user.may_log not in one] == []


def name(number):
    return f"{'abc'[number // 20]}/photo {number:02}.jpg"


def on_clipboard(user):
    return user.browser.execute_async_script(
        "navigator.clipboard.readText().then(arguments[0], (error) => arguments[0](String(error)))"
    )


def downloaded(user, act):
    """What a click downloads, as text."""
    user.run("URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return '#'; }")
    user.run("window.saved = undefined")
    act()
    return user.until(lambda: user.run("return window.saved"))


# -- the collection


def test_it_starts_with_the_collection(user):
    user.open()
    assert user.grid(ALONE)[:4] == [name(number) for number in range(4)]
    assert user.browser.title == "Drawn photos"
    assert user.shown("#about").text == f"{COUNT} photos · small.keras · 64 px"
    user.until(lambda: user.run("return document.querySelectorAll('#grid .tile.loaded').length") > 10)
    assert all(
        address.startswith(user.service.address)
        for address in requests(user.browser)
        if not address.startswith("about:")
    )


def test_folders_columns_times_and_names_are_filters(user):
    user.open(stacks=0)
    user.grid(COUNT)
    user.shown("#folders [data-folder='b']").click()
    assert {one[0] for one in user.grid(20)} == {"b"}
    user.shown(f"{card(user, 'camera')} label").click()
    assert user.grid(10)
    assert user.state()["column.camera"] == ["Canon"]
    user.run("const one = document.getElementById('after'); one.value = '2012-06-01'; one.onchange({ target: one })")
    user.run("const one = document.getElementById('before'); one.value = '2012-12-31'; one.onchange({ target: one })")
    found = user.grid(3)
    assert [int(one[-6:-4]) for one in found] == [30, 32, 34]
    user.shown("#text").send_keys("32")
    assert user.grid(1) == [name(32)]
    assert user.shown("#total-of").text == f"of {COUNT}"
    user.says("#chips", "“32”")
    user.click("#chips [aria-label='Remove the filter: “32”']")
    user.grid(3)
    user.browser.find_elements(By.CSS_SELECTOR, "#chips button")[-1].click()
    user.grid(COUNT)


def test_it_says_which_filters_leave_no_photo(user):
    user.open(text="nothing")
    user.says("#problem", "No photo matches “nothing”.")
    user.click("#problem button")
    user.grid(ALONE)
    user.hidden("#problem")
    user.open(("from.year", "2050"), ("column.camera", "Canon"), stacks=0)
    user.says("#problem", "No photo matches “year from 2050”.")
    user.click("#problem button")
    user.grid(COUNT // 2)
    assert "from.year" not in user.state()
    user.open(("to.year", "1991"), ("none.camera", "Pixel"), text="photo 01")
    user.says("#problem", "Each filter leaves photos, but no photo matches all of them.")
    user.click("#problem button")
    user.grid(ALONE)


def card(user, column):
    """Opens the card of a column, and returns the selector of its part."""
    part = f"#columns details:has([role=group][aria-label='{column}'])"
    if not user.run("return document.querySelector(arguments[0]).open", part):
        user.click(f"{part} summary")
    user.shown(f"{part} .field, {part} input")
    return part


def shows(user, expected):
    """The grid has the photos that are expected; it makes tiles for those of its first rows."""
    found = user.grid(len(expected))
    assert found == expected[: len(found)]


def rows_where(user, condition):
    """Names of the photos whose values satisfy a condition."""
    values = user.service.source.columns
    return [name(row) for row in range(COUNT) if condition({column: texts[row] for column, texts in values.items()})]


def test_texts_are_any_or_none_of_some_values(user):
    user.open(stacks=0)
    user.grid(COUNT)
    part = card(user, "city")
    boxes = user.browser.find_elements(By.CSS_SELECTOR, f"{part} [type=checkbox]")
    assert len(boxes) == 12
    first = boxes[1].get_attribute("value")
    boxes[1].send_keys(Keys.SPACE)
    expected = rows_where(user, lambda photo: photo["city"] == first)
    shows(user, expected)
    # A value is typed in other letters than the photos have it.
    field = user.shown(f"{part} input[type=search]")
    field.send_keys("paris", Keys.ENTER)
    expected = rows_where(user, lambda photo: photo["city"] in (first, PARIS))
    shows(user, expected)
    assert user.state()["column.city"] == [first, PARIS]
    user.select(f"{part} select", "none")
    expected = rows_where(user, lambda photo: photo["city"] not in (first, PARIS))
    shows(user, expected)
    assert user.state()["none.city"] == [first, PARIS]
    field.send_keys("Atlantis", Keys.ENTER)
    user.says(f"{part} .card > p", "No photo has “Atlantis”.")
    user.select(f"{part} select[id$=has]", "0")
    expected = rows_where(user, lambda photo: not photo["city"])
    shows(user, expected)


def test_suggestions_complete_a_value(user):
    user.open()
    user.grid(ALONE)
    part = card(user, "city")
    user.shown(f"{part} input[type=search]").send_keys("vill")
    suggested = user.until(lambda: [
        one.get_attribute("value") for one in user.browser.find_elements(By.CSS_SELECTOR, f"{part} datalist option")
    ])  # fmt: skip
    assert set(suggested) <= {*user.service.source.columns["city"]}
    # A suggestion that is taken comes as one input event without a type of typing.
    user.run(
        "const one = document.querySelector(arguments[0]); one.value = arguments[1]; "
        "one.dispatchEvent(new InputEvent('input', { inputType: 'insertReplacementText' }))",
        f"{part} input[type=search]", suggested[-1],
    )  # fmt: skip
    user.says("#chips", f"city: {suggested[-1]}")


def test_lists_are_any_all_or_none_of_some_values(user):
    user.open(("column.tags", "red"), ("column.tags", "door"), stacks=0)
    for mode, test in (("any", any), ("all", all), ("none", lambda found: not any(found))):
        part = card(user, "tags")
        user.select(f"{part} select", mode)
        expected = rows_where(user, lambda photo, test=test: test(one in photo["tags"] for one in ("red", "door")))
        shows(user, expected)


def test_numbers_and_times_are_ranges(user):
    user.open(stacks=0)
    user.grid(COUNT)
    year, seen = card(user, "year"), card(user, "seen")
    user.says(f"{year} .card", "1991 to 2049")
    user.shown(f"{year} input").send_keys("2007.5", Keys.TAB)
    expected = rows_where(user, lambda photo: photo["year"] >= "2008")
    shows(user, expected)
    user.run(
        "const one = document.querySelector(arguments[0]); one.value = '2020-01-14'; one.onchange()",
        f"{seen} .field:nth-child(2) input",
    )
    expected = rows_where(user, lambda photo: photo["year"] >= "2008" and photo["seen"] <= "2020-01-14")
    shows(user, expected)
    assert user.state()["from.year"] == ["2007.5"]
    assert user.state()["to.seen"] == ["2020-01-14"]
    user.says("#chips", "seen to January 14, 2020")
    user.shown(f"{year} .field:nth-child(2) input").send_keys("1995", Keys.TAB)
    user.says(f"{year} .card > p[role=status]", "From is after To, which no photo can be.")


def test_conditions_restrict_every_search(user):
    state = (("column.tags", "door"), ("from.year", "2000"), ("has.city", "1"))
    condition = ['"tags" in "door"', '"year" >= "2000"', '"city" not empty']
    expected = rows_where(user, lambda photo: "door" in photo["tags"] and photo["year"] >= "2000" and photo["city"])
    user.open(("photo", name(30)), *state)
    kept = [one for one in expected if one != name(30)]
    assert {*user.results(len(kept))} == {*kept}
    user.open(("photo", name(30)), ("box", "5,5,60,60"), *state)
    user.results(len(kept))
    user.open(("like", name(30)), ("unlike", name(31)), *state)
    user.results(len([one for one in kept if one != name(31)]))
    assert [sorted(one["filter"]["where"]) for one in user.service.searches] == [sorted(condition)] * 3
    user.open(("photo", name(30)), ("from.year", "2050"))
    user.says("#problem", "No photo matches “year from 2050”.")


def test_odd_columns_and_values_stay_what_they_are(user):
    source = user.service.source
    odd = ["__proto__", "constructor.name", 'a "b" = c, d', "10"]
    values = ['"', "a, b", "in x", "\n", "\\", "<b>", "", "é"]
    columns = {column: [values[row % len(values)] for row in range(COUNT)] for column in odd}
    source.photos = Catalogue(source.names, columns, version="odd")
    for column, value in zip(odd, values, strict=False):
        user.open((f"column.{column}", value), stacks=0)
        shows(user, [name(row) for row in range(COUNT) if values[row % len(values)] == value])
    state = [(f"{kind}.{column}", value) for kind in ("column", "all", "none") for column in odd for value in values]
    user.open(*state)
    user.run("document.getElementById('text').value = 'photo'; document.getElementById('text').oninput()")
    user.until(lambda: user.state().pop("text", None))  # the page has written its address anew
    found = [(key, value) for key, values in user.state().items() for value in values if key != "text"]
    assert sorted(found) == sorted(state)
    user.may_log = "400"
    user.open(("from.__proto__", "1"))
    user.says("#problem", ">= is for numbers and times")


def test_every_form_of_a_time_is_readable(user):
    user.open()
    forms = {
        "2017": "2017", "2017-07": "July 2017", "2017:07": "July 2017", "2017-07-18": "July 18, 2017",
        "2017:07:18 10:30:05": "July 18, 2017, 10:30", "9999-12-31T23:59": "December 31, 9999, 23:59",
    }  # fmt: skip
    found = user.browser.execute_async_script(
        "import(new URL('static/dom.js', location.href)).then(({ dateAndTime }) => arguments[1](arguments[0].map("
        "dateAndTime)), (error) => arguments[1](String(error)))",
        list(forms),
    )
    assert found == list(forms.values())


def test_photos_without_a_time_or_a_place(user):
    source = user.service.source
    columns = source.columns | {
        "time": [text if row % 3 else "" for row, text in enumerate(source.columns["time"])],
        "latitude": [text if row % 4 else "" for row, text in enumerate(source.columns["latitude"])],
    }
    source.photos = Catalogue(source.names, columns, version="without", types=source.opened.facts[TYPES])
    user.open(stacks=0)
    user.grid(COUNT)
    user.select("#time-has", "0")
    user.grid(COUNT // 3)
    user.select("#place-has", "1")
    assert user.grid(COUNT // 4) == [name(row) for row in range(0, COUNT, 3) if row % 4]
    user.says("#chips", "without a time")
    user.says("#chips", "with a place")


def test_stacks_are_collapsed_and_opened(user):
    user.open()
    user.grid(ALONE)
    user.says("#grid .tile-stack", "3")
    user.click("#grid .tile-stack")
    assert user.grid(3) == [name(number) for number in COPIES]
    user.browser.back()
    user.grid(ALONE)
    user.until(lambda: user.shown("#total").text == f"{COUNT} photos")
    assert user.shown("#total-of").text == f"in {ALONE} stacks"
    user.click("#stacks")
    user.grid(COUNT)


def test_the_time_line_scrolls_the_grid(user):
    user.open()
    user.grid(ALONE)
    line = user.shown("#timeline canvas")
    assert line.get_attribute("aria-valuetext") == "January 2010, 1 photo"
    line.send_keys(Keys.END)
    assert user.state()["sort"] == ["time"]
    user.until(lambda: name(COUNT - 1) in user.names("#grid"))
    assert line.get_attribute("aria-valuetext").startswith("December 2014")
    ActionChains(user.browser).move_to_element_with_offset(line, 0, 0).perform()
    assert "photo" in user.shown("#timeline-tip").text
    line.click()
    user.until(lambda: "2012" in line.get_attribute("aria-valuetext"))
    user.run("document.getElementById('browse-scroll').dispatchEvent(new Event('wheel'))")
    user.run("document.getElementById('browse-scroll').scrollTop = 0")
    user.until(lambda: line.get_attribute("aria-valuetext").startswith("January 2010"))


def test_the_map_shows_clusters_and_filters_by_its_area(user):
    user.open(map=1, stacks=0)
    markers = user.until(
        lambda: (found := user.browser.find_elements(By.CSS_SELECTOR, ".marker")) and len(found) == 3 and found
    )
    assert sorted(one.text for one in markers) == ["20", "20", "20"]
    user.click("#map-only")
    user.grid(COUNT)
    user.run("[...document.querySelectorAll('.marker')].find((one) => one.cluster.lon > 100).click()")
    assert {int(one[-6:-4]) % 3 for one in user.grid(20)} == {2}
    user.click("#map-all")
    user.grid(COUNT)
    canvas = user.shown("#map canvas")
    canvas.send_keys("+", "+", Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    user.until(lambda: user.run("return document.getElementById('total').textContent") != f"{COUNT} photos")
    area = [float(value) for value in user.state()["area"][0].split(",")]
    assert area[0] < area[2]
    assert area[1] < area[3]
    user.click("#map-open")
    user.grid(COUNT)


def test_a_grid_of_many_photos_keeps_few_tiles(user):
    user.service.source.show([name(number) for number in range(COUNT)], "tall")
    user.open(stacks=0)
    user.grid(COUNT)
    user.run(
        "document.getElementById('size').value = 2; document.getElementById('size').oninput({ target: { value: 2 } })"
    )
    user.until(lambda: 0 < len(user.names("#grid")) < COUNT)
    user.run("const one = document.getElementById('browse-scroll'); one.scrollTop = one.scrollHeight")
    user.until(lambda: name(COUNT - 1) in user.names("#grid") and name(0) not in user.names("#grid"))
    assert len(user.names("#grid")) < COUNT


# -- searching


def test_a_click_on_a_photo_shows_it_and_finds_similar_ones(user):
    user.open(stacks=0)
    user.grid(COUNT)
    user.until(lambda: user.run(f"return {TILES}[1].photo?.name") == name(1))
    user.run(f"{TILES}[1].click()")
    assert user.shown("#viewer-title").text == "photo 01.jpg"
    user.says("#viewer-facts", "February 7, 2010, 10:00")
    user.says("#viewer-facts", "40.6894° N, 74.0445° W")
    user.click("#viewer-search")
    user.hidden("#viewer")
    found = user.results(COUNT - 1)
    assert name(1) not in found
    assert user.state() == {"photo": [name(1)], "stacks": ["0"]}
    user.browser.back()
    user.browser.back()
    user.grid(COUNT)


def test_the_first_results_are_the_nearest(user):
    source = user.service.source
    user.open(photo=name(7))
    scores = source.rows @ source.rows[7]
    order = [source.names[row] for row in (-scores).argsort(kind="stable").tolist() if row != 7]
    assert user.results(COUNT - 1)[:10] == order[:10]
    assert user.shown("#results .result-score").text == f"{sorted(scores)[-2]:.3f}"


class FirstIsVerified:
    """A verifier that finds 25 points in the first hit, and 3 in the second."""

    depth = 2

    def describe(self, query, box=None):
        return "features"

    def verify_any(self, queries, hits):
        points = [np.array([[3 * place, 2 * place] for place in range(count)], np.float32) for count in (25, 3)]
        matches = [(0, Match("homography", one, one + 5, 40)) for one in points]
        return hits, [*matches, *[None] * (len(hits.names) - 2)]


def test_matching_points_are_joined_by_lines(user, monkeypatch):
    monkeypatch.setattr(user.service.page, "_verifier", FirstIsVerified())
    user.open(photo=name(7))
    first = user.results(COUNT - 1)[0]
    badges = "return [...document.querySelectorAll('#results .tile-points')].map((one) => one.textContent)"
    assert user.run(badges) == ["25"]
    user.run("document.querySelector('#results [role=option]').click()")
    user.says("#viewer-facts", "25")
    user.hidden("#viewer-pair")
    user.click("#viewer-match")
    lines = (
        "return [...document.querySelectorAll('#viewer-pair line')]"
        ".map((line) => ['x1', 'y1', 'x2', 'y2'].map((side) => Number(line.getAttribute(side))))"
    )
    drawn = user.until(lambda: user.run(lines))
    assert len(drawn) == 25
    images = (
        "return [...document.querySelectorAll('#viewer-pair img')].map((one) => "
        "[one.offsetLeft, one.offsetTop, one.offsetWidth / one.naturalWidth, decodeURIComponent(one.src)])"
    )
    (left, top, scale, query), (other, below, other_scale, found) = user.run(images)
    assert query.endswith(name(7))
    assert found.endswith(first)
    expected = [left + 72 * scale, top + 48 * scale, other + 77 * other_scale, below + 53 * other_scale]
    assert drawn[24] == pytest.approx(expected, abs=1.5)
    user.keys("m")
    user.hidden("#viewer-pair")
    user.click("#viewer-after")
    user.says("#viewer-facts", "3 (as by chance)")
    user.keys(Keys.ARROW_RIGHT)
    user.hidden("#viewer-match")


def test_results_have_probabilities_and_no_match_is_said(user, monkeypatch):
    rows = user.service.source.rows
    best = float(np.sort(rows @ rows[7])[-2])  # of the first result
    curve = Curve(-20 * best, (20.0, 0.0))  # its probability is 50 %
    answers = Answers(user.service.source.opened, Calibration({"global": curve}, 0.99, {}))
    monkeypatch.setattr(user.service.page, "_judging", lambda: Judge(answers, 0.9))
    user.open(photo=name(7))
    user.says("#results-status", "No match.")
    user.says("#problem", "No photo shows this object with a probability of 90 % or more.")
    user.click("#problem button")
    user.results(COUNT - 1)
    assert user.shown("#results .result-score").text in (f"50 % · {best:.3f}", f"49 % · {best:.3f}")
    monkeypatch.setattr(user.service.page, "_judging", lambda: Judge(answers, 0.4))
    user.open(photo=name(8))
    user.says("#results-status", "of at least 40 % among")


def upload(user, path):
    user.browser.find_element(By.ID, "file").send_keys(str(path))


def test_an_own_photo_is_chosen_dropped_or_pasted(user):
    photo = user.service.source.folder / name(9)
    user.open()
    upload(user, photo)
    assert user.results(COUNT)[0] == name(9)
    assert user.state() == {"upload": ["1"]}
    assert user.shown("#query-name").text == "photo 09.jpg"
    user.click("#leave")
    user.grid(ALONE)
    for kind, field in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        user.run(
            """
            const bytes = Uint8Array.from(atob(arguments[0]), (one) => one.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "own.png", { type: "image/png" }));
            const event = new Event(arguments[1], { bubbles: true, cancelable: true });
            event[arguments[2]] = data;
            document.body.dispatchEvent(event);
            """,
            base64.b64encode(photo.read_bytes()).decode(), kind, field,
        )  # fmt: skip
        assert user.results(COUNT)[0] == name(9)
        user.click("#leave")
        user.grid(ALONE)


def test_the_whole_area_is_clickable_and_a_phone_offers_its_camera(user):
    user.open()
    user.run("document.getElementById('file').click = () => { window.asked = true; }")
    user.click("#choose")
    assert user.run("return window.asked")
    size = user.shown("#choose").size
    assert size["height"] > 120
    assert size["width"] > 200
    assert user.run("return document.getElementById('camera').getAttribute('capture')") == "environment"


def test_a_link_to_an_uploaded_photo_says_what_is_missing(user):
    user.open(upload=7)
    user.says("#problem", "a link cannot contain")


def test_a_photo_that_cannot_be_read(user, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    user.open()
    upload(user, tmp_path / "broken.jpg")
    text = user.says("#problem", "broken.jpg cannot be searched with:")
    assert "Choose another photo." in text
    assert user.shown(".unseen-text").is_displayed()
    (tmp_path / "empty.jpg").touch()
    upload(user, tmp_path / "empty.jpg")
    user.says("#problem", "empty.jpg is empty.")


def drag(user, start, end):
    canvas = user.shown("#query-canvas")
    middle = [side / 2 for side in (canvas.size["width"], canvas.size["height"])]
    at = [[int(part * 2 * half - half) for part, half in zip(place, middle, strict=True)] for place in (start, end)]
    actions = ActionChains(user.browser).move_to_element_with_offset(canvas, *at[0]).click_and_hold()
    actions.move_to_element_with_offset(canvas, *at[1]).release().perform()


def boxes(user):
    return [[int(side) for side in box.split(",")] for box in user.state().get("box", [])]


def test_boxes_are_drawn_with_the_pointer(user):
    user.open(photo=name(1))
    user.results(COUNT - 1)
    user.until(lambda: user.run("return document.getElementById('query-photo').naturalWidth"))
    drag(user, (0.1, 0.1), (0.5, 0.5))
    user.until(lambda: len(boxes(user)) == 1)
    drag(user, (0.6, 0.6), (0.9, 0.9))
    user.until(lambda: len(boxes(user)) == 2)
    left, top, right, bottom = boxes(user)[0]
    assert abs(left - 12) <= 2
    assert abs(top - 9) <= 2
    assert abs(right - 60) <= 2
    assert abs(bottom - 45) <= 2
    user.until(lambda: len(user.service.searches[-1]["queries"]) == 2)
    assert [query["box"] for query in user.service.searches[-1]["queries"]] == boxes(user)
    drag(user, (0.3, 0.3), (0.4, 0.3))  # moves the first one
    user.until(lambda: boxes(user)[0][0] > left + 5)
    assert boxes(user)[0][2] - boxes(user)[0][0] == right - left
    user.click("#whole")
    user.until(lambda: not boxes(user))


def test_boxes_are_drawn_with_the_keyboard(user):
    user.open(photo=name(1))
    user.results(COUNT - 1)
    user.until(lambda: user.run("return document.getElementById('query-photo').naturalWidth"))
    user.shown("#query-canvas").send_keys(Keys.ENTER)
    user.until(lambda: boxes(user) == [[30, 23, 90, 68]] or boxes(user))
    before = boxes(user)[0]
    user.keys(Keys.ARROW_RIGHT)
    user.until(lambda: boxes(user)[0][0] > before[0] and boxes(user)[0][2] - boxes(user)[0][0] == before[2] - before[0])
    user.keys(Keys.ESCAPE)
    user.until(lambda: not boxes(user))


def test_boxes_are_drawn_in_the_viewer(user):
    user.open(open=name(1))
    user.until(lambda: user.run("return document.getElementById('viewer-photo').naturalWidth"))
    user.click("#viewer-draw")
    user.shown("#viewer-canvas").send_keys(Keys.ENTER)
    user.says("#viewer-search", "Search with the box")
    user.click("#viewer-search")
    user.results(COUNT - 1)
    assert len(boxes(user)) == 1


def test_more_like_this_and_not_this(user):
    user.open(photo=name(7))
    found = user.results(COUNT - 1)
    user.shown("#results").send_keys(Keys.ARROW_DOWN, "+")
    user.until(lambda: user.state().get("like") == [found[0]])
    user.shown("#query-like li")
    user.keys(Keys.ARROW_RIGHT)
    user.run(
        "[...document.querySelectorAll('#results [role=option]')].find((one) => one.photo.name === arguments[0])"
        ".querySelector('.tile-unlike').click()",
        found[5],
    )
    assert found[5] not in user.results(COUNT - 2)
    assert user.service.searches[-1]["unlike"] == [found[5]]
    user.click("#query-unlike .remove")
    assert found[5] in user.results(COUNT - 1)


def test_several_photos_are_searched_with(user):
    user.open(("photo", name(1)), ("photo", name(2)))
    user.results(COUNT - 2)
    assert [query["photo"] for query in user.service.searches[-1]["queries"]] == [name(1), name(2)]
    user.click("#query-others .remove")
    user.results(COUNT - 1)
    assert user.state()["photo"] == [name(2)]


def test_a_search_within_a_filter(user):
    user.open(("photo", name(1)), ("folder", "b"))
    assert {one[0] for one in user.results(20)} == {"b"}
    user.says("#results-status", "of 20")
    user.open(("photo", name(1)), ("text", "nothing"))
    user.says("#problem", "No photo matches “nothing”.")


def test_the_cut_is_a_line_in_the_ranking(user):
    user.open(photo=name(1))
    user.results(COUNT - 1)
    user.run(
        "const one = document.getElementById('cut'); one.value = 0.1;"
        "one.dispatchEvent(new Event('input')); one.dispatchEvent(new Event('change'))"
    )
    cut = float(user.until(lambda: user.state().get("cut"))[0])
    source = user.service.source
    above = int((source.rows @ source.rows[1] >= cut).sum()) - 1
    user.says(".cut-line", f"{above} of {COUNT - 1}")
    assert len(user.browser.find_elements(By.CSS_SELECTOR, ".result.below")) == COUNT - 1 - above
    user.click("#look")
    assert user.state()["look"] == ["ranking"]
    user.says("#results .result-text", "photo")
    assert user.shown(".ranking-list .result-rank").text == "1"


def test_results_are_walked_through_with_the_keyboard(user):
    user.open(photo=name(1))
    found = user.results(COUNT - 1)
    user.shown("#results").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    assert user.shown("#viewer-title").text == found[1].split("/")[1]
    user.keys(Keys.ARROW_RIGHT)
    user.says("#viewer-title", found[2].split("/")[1])
    user.says("#viewer-place", f"3 of {COUNT - 1}")
    user.keys(Keys.ESCAPE)
    user.hidden("#viewer")
    user.until(lambda: user.run("return document.activeElement.id") == "results")
    user.keys("s")
    user.until(lambda: user.state()["photo"] == [found[2]])
    user.shown("#results").send_keys(Keys.ESCAPE)
    user.grid(ALONE)


# -- the viewer, the selection, links


def test_the_viewer_zooms_and_goes_on(user):
    user.open(("stacks", 0), ("open", name(3)))
    user.says("#viewer-place", f"4 of {COUNT}")
    user.keys(Keys.ARROW_LEFT)
    user.says("#viewer-title", "photo 02.jpg")
    user.keys("z")
    user.until(lambda: "scale(3)" in user.run("return document.getElementById('viewer-stage').style.transform"))
    user.keys(Keys.ESCAPE)
    user.until(lambda: user.run("return document.getElementById('viewer-stage').style.transform") == "")
    user.keys("c")
    user.says("#toast", "Path copied.")
    assert on_clipboard(user) == str(user.service.source.folder / name(2))
    user.keys(Keys.END)
    user.says("#viewer-place", f"{COUNT} of {COUNT}")
    assert not user.shown("#viewer-after").is_enabled()
    user.keys(Keys.ESCAPE)
    user.hidden("#viewer")
    user.until(lambda: name(COUNT - 1) in user.names("#grid"))


def test_photos_are_selected_and_their_names_downloaded(user):
    user.open(stacks=0)
    user.grid(COUNT)
    user.until(lambda: user.run(f"return {TILES}[5].photo?.name") == name(5))
    ActionChains(user.browser).move_to_element(user.run(f"return {TILES}[2]")).perform()
    user.click("#grid .tile-check")
    user.run(f"{TILES}[5].dispatchEvent(new MouseEvent('click', {{ bubbles: true, shiftKey: true }}))")
    user.says("#selection-count", "4 selected")
    rows = list(csv.DictReader(io.StringIO(downloaded(user, lambda: user.click("#selection-csv")))))
    assert [row["name"] for row in rows] == [name(number) for number in range(2, 6)]
    assert rows[0]["path"] == str(user.service.source.folder / name(2))
    user.click("#selection-all")
    user.says("#selection-count", f"{COUNT} selected")
    assert len(json.loads(downloaded(user, lambda: user.click("#selection-json")))) == COUNT
    user.click("#selection-clear")
    user.hidden("#selection")
    user.shown("#grid").send_keys(Keys.HOME, Keys.SPACE)
    user.says("#selection-count", "1 selected")
    user.click("#selection-search")
    user.results(COUNT - 1)


def test_selected_results_have_scores(user):
    user.open(("photo", name(1)), ("cut", 0.1))
    user.results(COUNT - 1)
    user.shown("#results").send_keys(Keys.HOME)
    ActionChains(user.browser).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
    rows = json.loads(downloaded(user, lambda: user.click("#selection-json")))
    assert rows
    assert all(row["score"] >= 0.1 for row in rows)


def test_a_link_shows_the_same_again(user):
    user.open(("photo", name(1)), ("box", "10,10,60,60"), ("folder", "a"), ("look", "ranking"), ("like", name(8)))
    found = user.results(19)
    user.click("#link")
    user.says("#toast", "Link copied.")
    link = on_clipboard(user)
    user.browser.get("about:blank")
    user.browser.get(link)
    assert user.results(19) == found
    assert user.shown(".ranking-list")


# -- states of the server


def test_the_page_grows_without_jumping(user):
    source = user.service.source
    source.show([name(number) for number in range(20, COUNT)], "few", searchable=30)
    source.progress = replace(
        source.progress, state="working", step=2, steps=3, label="describing photos", done=10, total=COUNT, rate=4.0,
        seconds_left=12.0, photos=COUNT, searchable=10,
    )  # fmt: skip
    user.open(stacks=0)
    user.grid(40)
    user.says("#progress", "Step 2 of 3: describing photos")
    user.says("#progress", "10 of 60 · 4.0 a second · 12 s left")
    user.shown("#grid .tile.waiting .tile-note")
    user.run(
        "document.getElementById('size').value = 2; document.getElementById('size').oninput({ target: { value: 2 } })"
    )
    user.run("document.getElementById('browse-scroll').scrollTop = 700")
    place = """
    const { top } = document.getElementById('browse-scroll').getBoundingClientRect();
    const tiles = [...document.querySelectorAll('#grid [role=option]')].filter((one) => one.photo);
    const [first] = tiles.filter((one) => one.getBoundingClientRect().top >= top).sort((a, b) => a.row - b.row);
    return [first.photo.name, Math.round(first.getBoundingClientRect().top)];
    """
    time.sleep(0.2)  # the scrolling has ended
    before = user.run(place)
    assert user.shown("#about").text.startswith("40 photos")
    source.reset()
    user.grid(COUNT)
    user.says("#about", f"{COUNT} photos")
    seen = user.until(lambda: user.run(place)[0] == before[0] and user.run(place))
    assert abs(seen[1] - before[1]) <= 1
    user.hidden("#progress")


def test_training_shows_before_and_after(user):
    source = user.service.source
    source.progress = replace(source.progress, training=Training("ready", 0.42, 0.51, "mAP"))
    user.open()
    text = user.says("#training", "Training: mAP")
    assert "42.0 %" in text
    assert "51.0 %" in text
    assert "is in use" in text


def test_files_that_were_left_out_have_reasons(user):
    user.open()
    user.click("#left-out")
    user.says("#left-out-list", "truncated: the file ends too early")
    user.keys(Keys.ESCAPE)
    user.hidden("#left-out-dialog")


def test_what_becomes_known_while_the_page_is_open_is_shown(user, monkeypatch):
    source, stacks = user.service.source, user.service.page._stacks
    monkeypatch.setattr(stacks, "_grouped", None)
    monkeypatch.setattr(stacks, "_next", float("inf"))
    source.show(source.names, "begun", searchable=0)
    source.progress = replace(source.progress, state="working", step=2, steps=3, network="", size=None, searchable=0)
    user.open()
    user.grid(COUNT)
    user.hidden("#stacks")
    assert user.shown("#about").text == f"{COUNT} photos"
    monkeypatch.undo()
    source.reset()
    user.grid(ALONE)
    assert user.shown("#stacks")
    user.says("#about", "small.keras · 64 px")


def test_a_photo_without_a_descriptor_has_its_reason(user):
    source = user.service.source
    source.reasons = {name(COUNT - 1): "truncated: the file ends too early"}
    source.show(source.names, "one left out", searchable=COUNT - 1)
    user.open(stacks=0, folder="c")
    user.grid(20)
    note = user.shown("#grid .tile.waiting .tile-note")
    assert note.text == "!"
    assert note.get_attribute("title") == "Left out: truncated: the file ends too early"
    user.shown("#grid").send_keys(Keys.END, Keys.ENTER)
    user.says("#viewer-facts", "truncated: the file ends too early")


def test_a_search_within_an_open_stack_is_not_called_one_of_the_stack(user):
    user.open(stack=name(COPIES[0]))
    user.grid(len(COPIES))
    user.says("#chips", "One stack")
    user.shown("#grid").send_keys(Keys.HOME, "s")
    user.results(COUNT - 1)  # the search is of the whole collection
    user.hidden("#chips")
    user.browser.back()
    user.says("#chips", "One stack")


def test_one_of_several_photos_cannot_be_read(user, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    user.open()
    user.browser.find_element(By.ID, "file").send_keys(
        f"{tmp_path / 'broken.jpg'}\n{user.service.source.folder / name(1)}"
    )
    user.results(COUNT)
    text = user.says("#problem", "broken.jpg cannot be searched with:")
    assert text.endswith("The search was made with the others.")


def test_a_selected_result_keeps_its_text_clear(user):
    user.open(photo=name(1))
    user.results(COUNT - 1)
    user.shown("#results").send_keys(Keys.HOME, Keys.SPACE)
    user.shown("#results .selected")
    edges = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"
    tile, picture, text = (
        user.run(edges, f"#results .selected{part}") for part in ("", " .tile-picture", " .result-text")
    )
    assert picture["bottom"] <= text["top"]
    assert picture["left"] - tile["left"] == pytest.approx(tile["right"] - picture["right"], abs=2)


def test_an_empty_collection_says_what_to_do(user):
    user.service.source.show([], "none")
    user.browser.get("about:blank")
    user.browser.get(user.service.address)
    user.says("#problem", f"Put photos into {user.service.source.folder}")


def test_a_search_waits_for_the_first_descriptors(user):
    source = user.service.source
    source.searched = None
    source.progress = replace(source.progress, state="working", searchable=0, total=COUNT)
    user.may_log = "503"
    user.open()
    user.run("location.hash = 'photo=' + arguments[0]", name(1))
    user.says("#problem", "No photo can be searched yet.")
    source.reset()
    user.results(COUNT - 1)
    user.hidden("#problem")


def test_a_server_that_is_gone_is_waited_for(user):
    user.open()
    user.grid(ALONE)
    user.may_log = "ERR_"
    user.service.stop()
    user.run("location.hash = 'folder=a'")
    user.says("#gone", "The server does not answer.")
    user.service.start()
    user.hidden("#gone")
    assert {one[0] for one in user.grid(18)} == {"a"}


def test_work_that_failed_is_reported(user):
    user.service.source.progress = replace(user.service.source.progress, state="failed", message="The disk is full.")
    user.open()
    user.says("#message", "The disk is full.")


# -- for everybody


def test_keys_are_listed_and_single_letters_can_be_switched_off(user):
    user.open()
    user.grid(ALONE)
    user.keys("?")
    user.says("#help-dialog", "more like this")
    user.click("#letters")
    user.keys(Keys.ESCAPE)
    user.keys("m")
    assert not user.run("return document.getElementById('map').checkVisibility()")
    user.click("#help")
    user.click("#letters")
    user.keys(Keys.ESCAPE)
    user.keys("m")
    user.shown("#map")
    user.keys("/")
    assert user.run("return document.activeElement.id") == "text"


def test_on_a_phone_filters_are_a_sheet(user):
    show(user.browser, 390, "light")
    user.open()
    user.grid(ALONE)
    assert not user.browser.find_element(By.ID, "text").is_displayed()
    user.click("#filters-open")
    user.click("#folders [data-folder='c']")
    user.click("#filters-close")
    assert {one[0] for one in user.grid(20)} == {"c"}


VIEWS = {
    "columns": {"column.city": PARIS, "from.year": "1995", "all.tags": "red", "to.seen": "2020-01-20"},
    "collection": {},
    "map": {"map": 1, "sort": "time", "folder": "a"},
    "search": {"photo": name(1), "like": name(8), "unlike": name(9), "cut": 0.1},
    "ranking": {"photo": name(1), "box": "10,10,60,60", "look": "ranking"},
    "viewer": {"open": name(1)},
    "nothing": {"text": "nothing"},
}
DIALOGS = {"help": "help", "left out": "left-out"}


@pytest.mark.parametrize("view", [*VIEWS, *DIALOGS, "selection", "progress"])
def test_every_view_is_readable_and_accessible(user, view):
    pytest.importorskip("axe_core_python", reason="axe-core-python is not installed")
    axe = (resources.files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
    if view == "progress":
        progress = replace(user.service.source.progress, state="working", label="describing photos", steps=3, total=9)
        user.service.source.progress = replace(progress, message="One.", training=Training("ready", 0.4, 0.5, "mAP"))
    user.open(**VIEWS.get(view, {}))
    if view in DIALOGS:
        user.click(f"#{DIALOGS[view]}")
    if view == "selection":
        user.click("#select-all")
    if view == "viewer":
        user.shown("#viewer-title")
    if view in ("search", "ranking"):
        user.until(lambda: user.run("return document.querySelectorAll('.result.loaded').length"))
    assert_readable(user.browser)
    assert_accessible(user.browser)
    for width, mode in ((DESKTOP, "light"), (390, "dark")):
        show(user.browser, width, mode)
        user.run(axe)
        found = user.browser.execute_async_script(
            "const [done] = arguments; const facts = ({ impact, id, nodes }) => [impact, id, nodes.map((n) => n.html)];"
            "axe.run().then(({ violations }) => done(violations.map(facts)))"
        )
        assert [one for one in found if one[0] in ("serious", "critical")] == [], (width, mode)


def test_without_motion_nothing_moves(user):
    user.open()
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    user.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    moving = user.run(
        "const moves = (one) => getComputedStyle(one).transitionDuration !== '0s';"
        "return [...document.querySelectorAll('*')].filter(moves).length"
    )
    assert moving == 0


# -- the token


def test_the_form_for_the_token_is_shown_once_and_again_without_its_cookie(user):
    token = Token("a-secret-of-many-characters")
    guard = Guard(HostNames("127.0.0.1"), token, form=sign_in, open_paths=(STYLE,))
    answer = guard.answering(lambda request: user.service.page.answer(request) or NOT_FOUND)
    limits, admit = guard.limits(lambda _: BodyLimits(2**24)), guard.admit
    server = HttpServer(
        answer, host="127.0.0.1", port=0, threads=8, most_requests=64, limits=limits, admit=admit
    )  # fmt: skip
    user.may_log = f"127.0.0.1:{server.port}"  # refused requests, and those that a reload ends
    user.browser.get(f"http://127.0.0.1:{server.port}/photos/{name(1)}")
    for secret, after in (("another secret", "#wrong"), (token.secret, "#grid [role=option]")):
        user.shown("#token").send_keys(secret, Keys.ENTER)
        user.shown(after)
        assert_accessible(user.browser)
    user.grid(COUNT - len(COPIES) + 1)
    user.browser.refresh()
    user.shown("#grid [role=option]")
    user.browser.delete_all_cookies()
    user.keys("/", "a")  # asks for another listing
    user.shown("#token")
    user.browser.get("about:blank")
    server.stop(0)
