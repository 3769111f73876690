"""Writers of an index that are killed: `python -m tests.helpers.killed_index_writers FOLDER 50 [SEED]`.

A writer adds, replaces and deletes photos, compacts now and then, or replaces the whole index, and tells each change
that was acknowledged. It is killed by SIGKILL at a random moment. Then the index must load and hold what was
acknowledged, and of the change that was under way all or nothing. The same index goes from one kill to the next.
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
    """The changes in order: (what, names, rows). They differ, so that a lost or doubled one is seen."""
    chance = np.random.default_rng(number)
    names = [f"{name}.jpg" for name in chance.choice(PHOTOS, 3, replace=False)]
    if number % 3 == 2:
        return "delete", names, None
    return "add", names, clustered_rows(3, seed=1_000 + number)


def applied(content, number):
    """A dict of names and rows after a change."""
    what, names, rows = change(number)
    if what == "delete":
        return {name: row for name, row in content.items() if name not in names}
    return content | dict(zip(names, rows, strict=True))


def write(folder, first, told):
    """Changes the index until it is killed. Before a change it tells "-number", after it "+number"."""
    from export.indexes.open_index import open_index

    place = open_index(folder)
    for number in range(first, first + 10_000):
        os.write(told, f"-{number}\n".encode())
        what, names, rows = change(number)
        place.delete(names) if what == "delete" else place.add(names, rows)
        os.write(told, f"+{number}\n".encode())
        if number % 7 == 6:
            place.compact()


def replace(folder, told):
    """Replaces the index by the first one, again and again."""
    from export.indexes.index import index

    os.write(told, b"-replace\n")
    while True:
        index(folder.parent / "descriptors", folder, replace=True)
        os.write(told, b"+replace\n")


def killed(work, seconds):
    """Runs work(told) in a process, kills it so many seconds after its first word; the words that it told."""
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
    told = os.read(reader, 100)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise SystemExit("the writer failed, see above")
    while more := os.read(reader, 1 << 16):
        told += more
    os.close(reader)
    return told.decode().split()


def holds(folder, content):
    """Whether the index holds these photos with these rows, as its search says too."""
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
            words = killed(lambda told: replace(place, told), moment)
            acknowledged = "+replace" in words
            possible = [first] if acknowledged else [content, first]
            held = [state for state in possible if holds(place, state)]
            if not held:
                raise SystemExit(f"kill {kill}: neither the old index nor the new one")
            outcomes["replaced"] += held[0] is first
            content = held[0]
            continue
        begun = number
        words = killed(lambda told, begun=begun: write(place, begun, told), moment)
        for word in words:
            if word[0] == "+":
                content, number = applied(content, int(word[1:])), int(word[1:]) + 1
        if holds(place, content):
            outcomes["before"] += 1
        elif words[-1][0] == "-" and holds(place, applied(content, number)):
            content, number = applied(content, number), number + 1
            outcomes["after"] += 1
        else:
            raise SystemExit(
                f"kill {kill}: an acknowledged change is lost, or half of one is there; it told {words[-3:]}"
            )
    print(f"{kills} kills, {number} acknowledged changes, none lost; {outcomes}")
    return outcomes


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
