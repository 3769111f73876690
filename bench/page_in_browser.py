"""Measures the search page of 100,000 synthetic photos in Chromium: `python -m bench.page_in_browser`.

The first paint, the frames of the page while it is scrolled in several ways, and its memory. Frames are measured from
Chromium's trace. On a machine that does other work at the same time, the time that Chromium waits for a processor is
part of a frame, so that the processor time of the longest frame is given, too.
"""

import argparse
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.made_photos import made_page
from bench.record import recorded
from export.search_page import stack_finder

ROUNDS = 5
WIDTH, HEIGHT = 1280, 900
TILES = 20  # photos of the first screen
CATEGORIES = ("devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel", "benchmark")
WAYS = {  # way to scroll -> speed in pixels per second, pixels
    "slow": (2_000, 10_000),
    "fast": (20_000, 80_000),
    "flung": (100_000, 600_000),
}
JUMPS = 10  # of the scroll bar


class DevTools:
    """Chromium's debugging protocol, with the events that WebDriver does not pass on.

    Args:
        browser: Selenium's driver.
    """

    def __init__(self, browser: Any) -> None:
        import websocket

        address = browser.capabilities["goog:chromeOptions"]["debuggerAddress"]
        with urllib.request.urlopen(f"http://{address}/json/version") as answer:
            url = json.load(answer)["webSocketDebuggerUrl"]
        self._socket = websocket.create_connection(url, suppress_origin=True, timeout=120)
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method, and returns its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != self._number:
            self._events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def start_trace(self) -> None:
        """Starts to record a trace."""
        config = {"includedCategories": list(CATEGORIES)}
        self.call("Tracing.start", transferMode="ReportEvents", traceConfig=config)

    def stop_trace(self) -> list[dict[str, Any]]:
        """Ends the recording, and returns the events of the trace."""
        self._events.clear()
        self.call("Tracing.end")
        while not any(event.get("method") == "Tracing.tracingComplete" for event in self._events):
            self._events.append(json.loads(self._socket.recv()))
        parts = [event for event in self._events if event.get("method") == "Tracing.dataCollected"]
        return [value for part in parts for value in part["params"]["value"]]

    def renderers(self) -> list[int]:
        """Returns the process numbers of the pages."""
        processes = self.call("SystemInfo.getProcessInfo")["processInfo"]
        return [process["id"] for process in processes if process["type"] == "renderer"]


def measure(count: int) -> list[dict[str, Any]]:
    """Measures the page.

    Args:
        count: number of photos.

    Returns:
        One row for each figure, with its limit.
    """
    stack_finder.MOST_PHOTOS = 0  # stacks take minutes of both processors before the page is measured
    with made_page(count) as server, chromium() as browser:
        address = f"http://127.0.0.1:{server.port}/"
        tools = DevTools(browser)
        first = sorted(_first_paint(browser, address) for _ in range(ROUNDS))[ROUNDS // 2]
        rows = [
            _row("first paint, ms", first[0], 1000),
            _row(f"the first {TILES} photos shown, ms", first[1], None),
        ]
        renderers = tools.renderers()
        for way, (speed, distance) in WAYS.items():
            tools.start_trace()
            for direction in (-1, 1):
                gesture = {"x": WIDTH // 2, "y": HEIGHT // 2, "yDistance": direction * distance, "speed": speed}
                browser.execute_cdp_cmd("Input.synthesizeScrollGesture", gesture | {"gestureSourceType": "mouse"})
            rows += _frame_rows(f"scrolled, {way}", tools.stop_trace(), renderers)
        tools.start_trace()
        for jump in range(JUMPS):
            browser.execute_script(
                "const one = document.getElementById('browse-scroll'); one.scrollTop = one.scrollHeight * arguments[0]",
                (jump * 7 % JUMPS + 0.5) / JUMPS,
            )
            time.sleep(0.3)
        rows += _frame_rows("jumps of the scroll bar", tools.stop_trace(), renderers)
        browser.execute_cdp_cmd("Performance.enable", {})
        metrics = {
            one["name"]: one["value"] for one in browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        }
        rows.append(_row("JavaScript heap, MB", metrics["JSHeapUsedSize"] / 2**20, None))
        rows.append(_row("elements of the page", metrics["Nodes"], None))
        rows.append(_row("memory of the page's process, MB", max(map(_memory, renderers)), 500))
        return rows


def chromium() -> Any:
    """Returns a context manager of a headless Chromium that draws without a graphics processor."""
    from contextlib import contextmanager
    from shutil import which

    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = which("chromium") or ""
    arguments = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
    options.arguments.extend([*arguments, f"--window-size={WIDTH},{HEIGHT}"])

    @contextmanager
    def driver() -> Any:
        browser = webdriver.Chrome(options, webdriver.ChromeService(which("chromedriver")))
        try:
            yield browser
        finally:
            browser.quit()

    return driver()


def _first_paint(browser: Any, address: str) -> tuple[float, float]:
    """Milliseconds from the navigation to the first contentful paint, and to the photos of the first screen."""
    browser.get("about:blank")
    browser.get(address)
    return tuple(
        browser.execute_async_script(
            """
            const [tiles, done] = arguments;
            const look = () => {
              const [paint] = performance.getEntriesByName("first-contentful-paint");
              const shown = document.querySelectorAll(".tile.loaded").length;
              if (paint && shown >= tiles) done([paint.startTime, performance.now()]);
              else setTimeout(look, 5);
            };
            look();
            """,
            TILES,
        )
    )


def _frame_rows(label: str, events: Sequence[Mapping[str, Any]], renderers: Sequence[int]) -> list[dict[str, Any]]:
    """The longest frame of the main thread, from the trace's events of frames."""
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain" and event["pid"] in renderers
    }
    frames = [
        event
        for event in events
        if event["name"] == "ProxyMain::BeginMainFrame" and (event["pid"], event["tid"]) in threads and "dur" in event
    ]
    longest = max((event["dur"] for event in frames), default=0) / 1000
    busiest = max((event.get("tdur", 0) for event in frames), default=0) / 1000
    return [
        _row(f"{label}: longest of {len(frames)} frames, ms", longest, 50),
        _row(f"{label}: most processor time of a frame, ms", busiest, 50),
    ]


def _memory(process: int) -> float:
    """The proportional share of memory of a process, in MB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024


def _row(figure: str, value: float, limit: float | None) -> dict[str, Any]:
    return {"figure": figure, "value": f"{value:.1f}" if value < 100 else f"{value:.0f}", "limit": limit}


def main() -> None:
    """Measures, and writes docs/measured/page-in-browser.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of photos")
    options = parser.parse_args()
    with recorded("page-in-browser") as add:
        for row in measure(options.count):
            add(row)


if __name__ == "__main__":
    main()
