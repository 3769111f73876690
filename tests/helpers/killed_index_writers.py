"""Kills processes that write to an index: `python -m tests.helpers.killed_index_writers FOLDER 50 [SEED]`.

A writer adds, replaces and deletes photos, compacts regularly, or replaces the whole index, and reports every change
that was acknowledged. It is killed by SIGKILL at a random time. Then the index must load and contain all acknowledged
changes, and the change that was under way completely or not at all. All kills are of writers of the same index.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from tests.helpers.index_faults import forked
from tests.helpers.small_index import clustered_rows, indexed, names_of

PHOTOS = 400


def change(number):
    """Change by number: (kind, names, rows). All differ, so that a lost or repeated one is noticed."""
    chance = np.random.default_rng(number)
    names = [f"{name}.jpg" for name in chance.choice(PHOTOS, 3, replace=False)]
    if number % 3 == 2:
        return "delete", names, None
    return "add", names, clustered_rows(3, seed=1_000 + number)


def applied(content, number):
    """Name -> row after a change."""
    what, names, rows = change(number)
    if what == "delete":
        return {name: row for name, row in content.items() if name not in names}
    return content | dict(zip(names, rows, strict=True))


def write(folder, first, report):
    """Changes the index until it is killed. Reports "-number" before a change and "+number" after it."""
    from export.indexes.open_index import open_index

    place = open_index(folder)
    for number in range(first, first + 10_000):
        os.write(report, f"-{number}\n".encode())
        what, names, rows = change(number)
        place.delete(names) if what == "delete" else place.add(names, rows)
        os.write(report, f"+{number}\n".encode())
        if number % 7 == 6:
            place.compact()


def replace(folder, report):
    """Replaces the index by the first one repeatedly."""
    from export.indexes.index import index

    os.write(report, b"-replace\n")
    while True:
        index(folder.parent / "descriptors", folder, replace=True)
        os.write(report, b"+replace\n")


def killed(work, seconds):
    """Runs work(report) in a process and kills it `seconds` after its first word; returns the words of its report."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            work(writer)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writer)
    report = os.read(reader, 100)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the writer failed, see above")
    while more := os.read(reader, 1 << 16):
        report += more
    os.close(reader)
    return report.decode().split()


def contains(folder, content):
    """Whether the index contains exactly these photos and rows, and its search finds them."""
    from export.indexes.open_index import open_index

    place = open_index(folder)
    names = sorted(content)
    if sorted(place.names) != names:
        return False
    rows = np.stack([content[name] for name in names])
    hits = place.search(rows, 1, exact=True)
    found = [one.names[0] == name or one.scores[0] > 1 - 1e-5 for one, name in zip(hits, names, strict=True)]
    return np.array_equal(place.vectors(names), rows) and all(found)


def main(folder, kills, seed=0, seconds=0.4):
    """Runs the kills; returns how often the change under way was lost, kept or was a replacement."""
    chance, folder = random.Random(seed), Path(folder)
    rows = clustered_rows(PHOTOS)
    first = dict(zip(names_of(PHOTOS), rows, strict=True))
    place, content, number = folder / "index", first, 0
    if forked(lambda: indexed(folder, rows) and 0):
        raise SystemExit("no index to kill the writers of")
    outcomes = {"before": 0, "after": 0, "replaced": 0}
    for kill in range(kills):
        moment = chance.uniform(0, seconds)
        if kill % 5 == 4:
            words = killed(lambda report: replace(place, report), moment)
            acknowledged = "+replace" in words
            possible = [first] if acknowledged else [content, first]
            matching = [state for state in possible if contains(place, state)]
            if not matching:
                raise SystemExit(f"kill {kill}: neither the old index nor the new one")
            outcomes["replaced"] += matching[0] is first
            content = matching[0]
            continue
        start = number
        words = killed(lambda report, start=start: write(place, start, report), moment)
        for word in words:
            if word[0] == "+":
                content, number = applied(content, int(word[1:])), int(word[1:]) + 1
        if contains(place, content):
            outcomes["before"] += 1
        elif words[-1][0] == "-" and contains(place, applied(content, number)):
            content, number = applied(content, number), number + 1
            outcomes["after"] += 1
        else:
            raise SystemExit(
                f"kill {kill}: an acknowledged change is lost, or only half of one is there; reported: {words[-3:]}"
            )
    print(f"{kills} kills, {number} acknowledged changes, none lost; {outcomes}")
    return outcomes


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
