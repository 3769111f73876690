"""Measures how fast the search page's server answers for 100,000 synthetic photos: `python -m bench.page`."""

import argparse
import http.client
import json
import time
from contextlib import closing
from urllib.parse import quote

import numpy as np

from bench.made_photos import made_page
from bench.record import recorded

ROUNDS = 15


def answer_times(count: int) -> list[dict[str, object]]:
    """Measures the server's answers over HTTP.

    Args:
        count: number of photos.

    Returns:
        One row per request: what it asks, the first answer and the median of later answers in milliseconds, and its
        size in bytes as sent.
    """
    with made_page(count) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:

        def ask(method: str, path: str, body: object = None) -> tuple[float, int, bytes]:
            started = time.perf_counter()
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{method} {path}: {answer.status} {data[:200]!r}")
            return 1000 * (time.perf_counter() - started), len(data), data

        names = _names(server.port)
        few = {"folder": names[0].rpartition("/")[0]}
        half = {"after": "2018", "before": "2021"}
        asked = [
            ("the page's about", "GET", "/about.json", None),
            ("first 200 photos", "GET", "/photos.json?count=200", None),
            ("200 photos in the middle, stacks", "GET", f"/photos.json?stacks=1&start={count // 2}&count=200", None),
            ("by time, one year", "GET", "/photos.json?sort=time-desc&after=2018&before=2018", None),
            ("part of a name", "GET", "/photos.json?text=99", None),
            ("summary of all", "GET", "/summary.json", None),
            ("summary of an area", "GET", "/summary.json?area=48,2,49,3&cells=40", None),
            ("search with a photo", "POST", "/search.json", {"queries": [{"photo": names[0]}]}),
            ("search in a folder", "POST", "/search.json", {"queries": [{"photo": names[0]}], "filter": few}),
            ("search in four years", "POST", "/search.json", {"queries": [{"photo": names[0]}], "filter": half}),
            ("5 liked, 5 disliked", "POST", "/search.json", {"like": names[:5], "unlike": names[5:10], "k": 500}),
            ("a thumbnail", "GET", f"/thumbnails/{quote(names[0])}?side=256", None),
        ]
        rows: list[dict[str, object]] = []
        for label, method, path, body in asked:
            first, size, _ = ask(method, path, body)
            later = [ask(method, path, body)[0] for _ in range(ROUNDS)]
            rows.append(
                {"request": label, "first ms": f"{first:.1f}", "median ms": f"{np.median(later):.1f}", "bytes": size}
            )
        return rows


def _names(port: int) -> list[str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET", "/photos.json?count=10")
        return [photo["name"] for photo in json.loads(connection.getresponse().read())["photos"]]


def main() -> None:
    """Measures, and writes docs/measured/page-answers.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of photos")
    options = parser.parse_args()
    with recorded("page-answers") as add:
        for row in answer_times(options.count):
            add(row)


if __name__ == "__main__":
    main()
