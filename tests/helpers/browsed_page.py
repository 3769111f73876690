"""A search page of sixty drawn photos behind a base path, and what tests in a browser do with it."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from keras_retrieval.pipelines.photos.reader import photo_size
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from export.http.base_path import below
from export.http.bodies import BodyLimits
from export.http.http_server import HttpServer
from export.http.messages import NOT_FOUND
from export.index_contract.column_types import TYPES
from export.index_contract.contract import NeighbourIndex
from export.indexes.open_index import open_index
from export.search_page.catalogue import Catalogue
from export.search_page.errors import NotReadyError
from export.search_page.routes import SearchPage
from export.search_page.source import Box, Status
from tests.helpers import small
from tests.helpers.small_index import indexed, random_rows, unit

HOURGLASS = 20  # seconds that the browser waits for anything
COUNT, DIMENSIONS = 60, 64
COPIES = (3, 4, 5)  # photos with one descriptor, which are a stack
TAGS = ("red", "old, round", "door")
PARIS = 'Paris, "Île"'
PLACES = ((51.7548, -1.2544), (40.6892, -74.0445), (35.6586, 139.7454))


class DrawnPhotos:
    """Implements `PhotoSource`; tests replace what its methods return, and `reset` restores it."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "photos"
        self.names = [f"{'abc'[number // 20]}/photo {number:02}.jpg" for number in range(COUNT)]
        for number, name in enumerate(self.names):
            small.draw(self.folder / name, *((90, 120) if number % 3 else (120, 90)), seed=number)
        rows = random_rows(COUNT, DIMENSIONS)
        rows[list(COPIES)] = rows[COPIES[0]]
        self.rows = rows
        self.columns = {
            "time": [f"20{10 + number // 12}-{1 + number % 12:02}-07T10:00:00" for number in range(COUNT)],
            "latitude": [str(PLACES[number % 3][0] + number / 5000) for number in range(COUNT)],
            "longitude": [str(PLACES[number % 3][1]) for number in range(COUNT)],
            "camera": [("Canon", "Pixel")[number % 2] for number in range(COUNT)],
            "city": [
                PARIS if number < 3 else f"Village {number % 20}" if number % 4 else "" for number in range(COUNT)
            ],
            "year": [str(1990 + number) if number % 6 else "" for number in range(COUNT)],
            "seen": [f"2020-01-{1 + number // 2:02}" for number in range(COUNT)],
            "tags": [
                json.dumps(["red", "old, round", "door"][: number % 4]) if number % 4 else "" for number in range(COUNT)
            ],
        }
        table = work / "table.jsonl"
        rows = zip(self.names, *self.columns.values(), strict=True)
        table.write_text(
            "".join(json.dumps(dict(zip(["photo", *self.columns], row, strict=True))) + "\n" for row in rows)
        )
        self.opened = open_index(indexed(work, self.rows, self.names, columns=table))
        self.reset()

    def reset(self) -> None:
        self.searched: NeighbourIndex | None = self.opened
        self.progress = Status(photos=COUNT, searchable=COUNT, network="small.keras", size=64, left_out=2)
        self.reasons = {"broken.jpg": "truncated: the file ends too early", "notes.txt": "not a photo"}
        self.show(self.names, "all")

    def show(self, names: list[str], version: str, searchable: int = COUNT) -> None:
        """Replaces the catalogue by one of some photos."""
        rows = [self.names.index(name) for name in names]
        columns = {column: [values[row] for row in rows] for column, values in self.columns.items()}
        known = np.array([row < searchable for row in rows], bool)
        self.photos = Catalogue(names, columns, known, version, self.opened.facts[TYPES])

    def index(self) -> NeighbourIndex | None:
        return self.searched

    def catalogue(self) -> Catalogue:
        return self.photos

    def describe(self, file: bytes, box: Box | None) -> np.ndarray:
        if self.searched is None:
            raise NotReadyError("The network is being loaded. Try again in a few seconds.")
        photo_size(file)
        for name, row in zip(self.names, self.rows, strict=True):
            if (self.folder / name).read_bytes() == file:
                return row if box is None else unit(row[None] + 0.01)[0]
        return self.rows[0]

    def status(self) -> Status:
        return self.progress

    def left_out(self) -> Mapping[str, str]:
        return self.reasons


class Served:
    """A page that is served, may be stopped and started again, and counts its requests."""

    def __init__(self, work: Path) -> None:
        self.source = DrawnPhotos(work)
        self.page = SearchPage(self.source, title="Drawn photos")
        self.searches: list[dict[str, Any]] = []
        self.server: HttpServer | None = None
        self.port = 0
        self.start()
        self.page._stacks.stacks(self.source.photos)  # starts to find them
        self.page._stacks.wait(HOURGLASS)

    def answer(self, request: Any) -> Any:
        if request.path == "/search.json":
            self.searches.append(json.loads(request.body))
        return self.page.answer(request) or NOT_FOUND

    def start(self) -> None:
        answer = below("/some/where", self.answer)
        self.server = HttpServer(
            answer, host="127.0.0.1", port=self.port, threads=8, most_requests=64, limits=BodyLimits(2**24)
        )  # fmt: skip
        self.port = self.server.port

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop(0.0)
        self.server = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/some/where/"


@contextlib.contextmanager
def served(work: Path) -> Iterator[Served]:
    """Serves a page until the context exits."""
    service = Served(work)
    yield service
    service.stop()
    service.page.close()


class User:
    """What a user does in the browser and sees there."""

    def __init__(self, browser: Any, service: Served) -> None:
        self.browser, self.service = browser, service

    def open(self, *state: tuple[str, Any], **more: Any) -> None:
        """Opens the page anew with a state in its address."""
        self.browser.get("about:blank")
        self.browser.get(f"{self.service.address}#{urlencode([*state, *more.items()])}")
        ready = "return Boolean(document.querySelector('[role=option], #problem:not([hidden])'))"
        self.until(lambda: self.run(ready))

    def run(self, script: str, *values: Any) -> Any:
        return self.browser.execute_script(script, *values)

    def until(self, condition: Any, what: str = "") -> Any:
        """Waits until a condition is true, and returns its value."""
        limit = time.monotonic() + HOURGLASS
        value = None
        while time.monotonic() < limit:
            with contextlib.suppress(StaleElementReferenceException, WebDriverException):
                if value := condition():
                    return value
            time.sleep(0.02)
        raise AssertionError(f"not within {HOURGLASS} s: {what or condition}; the last value is {value!r}")

    def shown(self, selector: str) -> Any:
        """The first element that is seen, waited for."""
        return self.until(
            lambda: next(
                (one for one in self.browser.find_elements(By.CSS_SELECTOR, selector) if one.is_displayed()), None
            ),
            selector,
        )

    def hidden(self, selector: str) -> None:
        self.until(
            lambda: not any(one.is_displayed() for one in self.browser.find_elements(By.CSS_SELECTOR, selector)),
            f"{selector} is hidden",
        )

    def click(self, selector: str) -> None:
        self.shown(selector).click()

    def select(self, selector: str, value: str) -> None:
        """Chooses an option of a list, by its value."""
        Select(self.shown(selector)).select_by_value(value)

    def says(self, selector: str, text: str) -> str:
        """Waits until an element contains a text."""
        return self.until(
            lambda: next(
                (
                    one.text
                    for one in self.browser.find_elements(By.CSS_SELECTOR, selector)
                    if one.is_displayed() and text in one.text
                ),
                None,
            ),
            f"{selector} says {text}",
        )

    def keys(self, *keys: str) -> None:
        """Presses keys, one after the other, where the focus is."""
        actions = ActionChains(self.browser)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def names(self, inside: str) -> list[str]:
        """The photos of a list box, in order."""
        return self.run(
            "return [...document.querySelectorAll(arguments[0] + ' [role=option]')]"
            ".filter((one) => one.photo)"
            ".sort((one, other) => one.row - other.row).map((one) => one.photo.name)",
            inside,
        )

    def grid(self, total: int) -> list[str]:
        """The photos of the grid, once there are `total`."""
        size = "return document.querySelector('#grid [role=option]:not(.parked)')?.ariaSetSize ?? '0'"
        self.until(lambda: self.run(size) == str(total), f"{total} photos")
        return self.until(
            lambda: len(self.names("#grid")) == min(total, len(self.names("#grid"))) and self.names("#grid")
        )

    def results(self, count: int) -> list[str]:
        """The results of a search, once there are `count` and no other search runs."""
        self.until(
            lambda: len(self.names("#results")) == count and not self.run("return document.body.matches('.searching')"),
            f"{count} results",
        )
        return self.names("#results")

    def state(self) -> dict[str, list[str]]:
        """The state in the address."""
        return self.run(
            "const all = {}; const state = new URLSearchParams(location.hash.slice(1));"
            "for (const [name, value] of state) (all[name] ??= []).push(value); return all"
        )
