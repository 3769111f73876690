"""The page of `serve --index`: its files and pictures over HTTP, and its use in a real browser."""

import base64
import contextlib
import http.client
import io
import threading
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from export.http.messages import Request
from export.server.limits import ComputeSlots
from export.server.photo_search import PhotoSearch
from export.server.rest import Rest
from export.server.search_page import Cache, SearchPage
from tests.helpers.browser import assert_accessible, assert_readable, chromium, requests
from tests.helpers.deadlines import join
from tests.helpers.search_service import STREET
from tests.helpers.serving_models import save_toy, serving

HOURGLASS = 20  # seconds that the browser waits for anything


@pytest.fixture
def service(search_service, search_server):
    """The server, its photos and their names."""
    photos = search_server.photos
    (photos.parent / "secret.png").write_bytes((photos / "000.png").read_bytes())
    return SimpleNamespace(client=search_server.client, photos=photos, names=search_service.names)


def get(service, path, method="GET"):
    """Status, headers and body of a path that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", service.client.rest_port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_the_page_needs_nothing_of_other_servers(service):
    texts = {}
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        status, headers, body = get(service, path)
        assert status == 200
        assert headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        texts[path] = body.decode()
    assert not any("://" in text for text in texts.values())
    status, headers, body = get(service, "/", "HEAD")
    assert (status, body, int(headers["Content-Length"])) == (200, b"", len(texts["/"].encode()))


def test_it_is_told_what_it_shows(service):
    status, about = service.client.rest("GET", "/about.json")
    assert status == 200
    assert (about["photos"], about["network"], about["size"], about["model"]) == (10, "small.keras", 64, "small")
    assert sorted(about["samples"]) == sorted(service.names)
    assert about["reasons"]["5"].startswith("its box")


def test_photos_and_thumbnails_are_found_by_name(service):
    name = STREET
    for path in (quote(name, safe=""), quote(name)):
        status, headers, body = get(service, f"/photos/{path}")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert body == (service.photos / name).read_bytes()
        status, headers, body = get(service, f"/thumbnails/{path}")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert "max-age" in headers["Cache-Control"]
        assert Image.open(io.BytesIO(body)).size == (90, 70)


NOWHERE = [
    "/photos/",
    "/photos/none.png",
    "/photos/../secret.png",
    "/photos/..%2Fsecret.png",
    "/photos/%2e%2e/secret.png",
    "/photos/street 1/../000.png",
    "/photos/./000.png",
    "/photos/%2Fetc%2Fpasswd",
    "/photos//etc/passwd",
    "/photos/000.png%00",
    "/photos/street%201",
    "/thumbnails/..%2Fsecret.png",
    "/thumbnails/%FF%FE",
    "/page/index.html",
    "/photos",
]


@pytest.mark.parametrize("path", NOWHERE)
def test_a_name_is_no_way_to_other_files(service, path):
    assert get(service, path.replace(" ", "%20"))[0] == 404


def test_a_name_of_the_index_outside_the_folder_is_no_way_out(service, search_server):
    class Any:
        """An index that has every name."""

        facts = search_server.index.facts

        def vectors(self, names):
            return np.zeros((len(names), 1))

    core = service.client.server.core
    page = SearchPage(PhotoSearch(Any(), ComputeSlots(1)), core.models, service.photos, Rest(core, 1.0).answer)
    assert page.answer(Request("GET", "/photos/000.png")).status == 200
    for path in ("..%2Fsecret.png", "%2Fetc%2Fpasswd", "street%201%2F..%2F..%2Fsecret.png", "street%201", ""):
        assert page.answer(Request("GET", f"/photos/{path}")).status == 404
        assert page.answer(Request("GET", f"/thumbnails/{path}")).status == 404


def test_pictures_follow_their_files(service):
    path = service.photos / "007.png"
    before = get(service, "/thumbnails/007.png")[2]
    content = path.read_bytes()
    Image.new("RGB", (800, 400)).save(path, "TIFF")
    status, headers, body = get(service, "/photos/007.png")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")  # no browser shows TIFF
    assert Image.open(io.BytesIO(body)).size == (800, 400)
    after = get(service, "/thumbnails/007.png")[2]
    assert Image.open(io.BytesIO(after)).size == (360, 180)
    path.write_bytes(content[:90])
    assert get(service, "/thumbnails/007.png")[0] == 404
    path.unlink()
    assert get(service, "/thumbnails/007.png")[0] == get(service, "/photos/007.png")[0] == 404
    path.write_bytes(content)
    assert get(service, "/thumbnails/007.png")[2] == before


def test_without_an_index_there_is_no_page(tmp_path):
    save_toy(tmp_path / "toy" / "1")
    with serving({"toy": tmp_path / "toy"}) as client:
        for path in ("/", "/page.js", "/about.json", "/photos/000.png"):
            assert get(SimpleNamespace(client=client), path)[0] == 404


def test_other_paths_are_rest(service):
    status, _, body = get(service, "/v1/models/none")
    assert (status, b"Could not find any versions of model none" in body) == (404, True)
    assert get(service, "/", "POST")[0] == 404
    assert get(service, "/monitoring/prometheus/metrics")[0] == 200


def test_the_cache_forgets_what_was_not_asked_for_longest():
    cache = Cache(10)
    for key in "abc":
        cache.put(key, b"1234")
        assert cache.get("a")
    assert [cache.get(key) for key in "abc"] == [b"1234", None, b"1234"]
    cache.put("c", b"12345678")
    assert [cache.get(key) for key in "abc"] == [None, None, b"12345678"]
    cache.put("d", bytes(11))
    assert [cache.get(key) for key in "abcd"] == [None] * 4
    threads = [threading.Thread(target=lambda n=n: [cache.put(n, bytes(n % 5)) for _ in range(50)]) for n in range(8)]
    for thread in threads:
        thread.start()
    join(threads)
    assert sum(len(cache.get(n) or b"") for n in range(8)) <= 10


# -- in a browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


class Page:
    """What a person sees and does."""

    def __init__(self, browser, service, path="/"):
        self.browser = browser
        browser.get("about:blank")
        browser.get(f"http://127.0.0.1:{service.client.rest_port}{path}")

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, HOURGLASS, 0.05).until(lambda _: condition())

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def neighbours(self):
        """Names of the neighbours, when a search has ended."""
        self.wait(lambda: self.run("return !document.body.classList.contains('searching') && state.request !== null"))
        return self.run("return [...document.querySelectorAll('#neighbours .name')].map((name) => name.textContent)")

    def drop(self, data, name):
        self.run(
            """const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], arguments[1]));
            for (const kind of ["dragenter", "dragover", "drop"])
              document.getElementById("drop").dispatchEvent(
                new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));""",
            base64.b64encode(data).decode(),
            name,
        )

    def draw(self, left, top, right, bottom):
        """Drags a box, in shares of the photo's sides."""
        from selenium.webdriver import ActionChains

        canvas = self.find("#canvas")
        wide, high = canvas.size["width"], canvas.size["height"]
        start = (round((left - 0.5) * wide), round((top - 0.5) * high))
        drag = ActionChains(self.browser).move_to_element_with_offset(canvas, *start).click_and_hold()
        drag.move_by_offset(round((right - left) * wide), round((bottom - top) * high)).release().perform()


def expected(service, photo, **inputs):
    answer = service.client.predict(
        {"image_bytes": np.array([photo], object), **inputs}, model="small", signature="search"
    )
    return [name.decode() for name in answer["names"][0]]


def test_a_photo_is_dropped_a_box_drawn_and_a_neighbour_clicked(browser, service):
    page, photo = Page(browser, service), (service.photos / STREET).read_bytes()
    page.wait(lambda: page.find("#facts").text)
    assert page.find("#facts").text == "10 photos · small.keras · 64 px"
    page.drop(photo, "mine.png")
    assert page.neighbours() == expected(service, photo)
    assert page.find("#neighbours .score").text == "1.000"
    assert "10 most similar photos" in page.find("#status").text

    page.draw(0.2, 0.2, 0.8, 0.9)
    box = page.wait(lambda: page.run("return state.box"))
    sides = [box[side] for side in ("left", "top", "right", "bottom")]
    np.testing.assert_allclose(sides, [18, 14, 72, 63], atol=2)
    assert page.neighbours() == expected(service, photo, boxes=np.array([sides], np.float32))
    assert page.find("#box").is_displayed()

    page.find("#neighbours li:nth-child(2) button").click()
    name = page.wait(lambda: page.run("return state.name"))
    names = page.neighbours()
    assert len(names) == 9
    assert name not in names
    assert page.run("return state.box") is None
    own = (service.photos / name).read_bytes()
    assert names == [other for other in expected(service, own) if other != name]

    page.find("#neighbours li:nth-child(3) button").click()
    page.wait(lambda: page.run("return state.name") != name)
    browser.back()
    page.wait(lambda: page.run("return state.name") == name)
    assert page.neighbours() == names
    browser.back()
    page.wait(lambda: page.run("return state.name") is None)
    assert page.neighbours() == expected(service, photo)


def test_keys_do_what_the_pointer_does(browser, service):
    from selenium.webdriver import ActionChains, Keys

    page = Page(browser, service, "/#" + quote(STREET, safe=""))
    first = page.neighbours()
    page.run("document.getElementById('canvas').focus()")
    keys = ActionChains(browser)
    keys.send_keys(Keys.ENTER, Keys.ARROW_LEFT).key_down(Keys.SHIFT).send_keys(Keys.ARROW_DOWN).key_up(Keys.SHIFT)
    keys.perform()
    box = page.run("return [state.box.left, state.box.top, state.box.right, state.box.bottom]")
    np.testing.assert_allclose(box, [20, 18, 65, 56], atol=2)
    page.wait(lambda: "to the box" in page.find("#status").text)
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    page.wait(lambda: "to the box" not in page.find("#status").text)
    assert page.neighbours() == first
    order = page.run("return [...document.querySelectorAll('button')].every((button) => button.tabIndex === 0)")
    assert order


def test_what_goes_wrong_is_told_kindly(browser, service):
    page = Page(browser, service)
    page.wait(lambda: page.find("#facts").text)
    page.drop(b"a text, no photo", "notes.txt")
    page.wait(lambda: page.find("#status").text.startswith("This photo cannot be searched with: not a picture"))
    assert not page.find("#photo").is_displayed()
    lost = service.photos / "003.png"
    content = lost.read_bytes()
    lost.unlink()
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    try:
        page.drop((service.photos / "002.png").read_bytes(), "mine.png")
        assert "003.png" in page.neighbours()
        missing = page.wait(
            lambda: page.run("return document.querySelector('#neighbours .missing .name')?.textContent")
        )
        assert missing == "003.png"
    finally:
        lost.write_bytes(content)
    page.run("location.hash = 'gone.png'")
    page.wait(lambda: page.find("#status").text.startswith("gone.png is not among the photos."))
    assert not [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]


def test_it_is_readable_and_asks_no_other_server(browser, service):
    requests(browser)
    browser.get_log("browser")
    page = Page(browser, service)
    page.wait(lambda: page.find("#samples li"))
    assert_accessible(browser)
    assert_readable(browser)
    page.drop((service.photos / STREET).read_bytes(), "mine.png")
    assert page.neighbours()
    assert_accessible(browser)
    assert_readable(browser)
    asked = set(requests(browser)) - {"about:blank"}
    assert {f"http://127.0.0.1:{service.client.rest_port}/{name}" for name in ("", "page.css", "page.js")} <= asked
    assert all(address.startswith(f"http://127.0.0.1:{service.client.rest_port}/") for address in asked)
    assert browser.get_log("browser") == []
