"""Changes an index while searches run: `python -m tests.helpers.index_under_search FOLDER 10000 [PHOTOS]`.

One thread adds, replaces and deletes single photos, others search meanwhile, and new segments are built when they are
due. Every result is checked: k photos, descending scores, each the product of the query with a row that its name had.
At the end the recall against exact search is compared with that of a new index of the same photos.
"""

import sys
import threading
import time
from pathlib import Path

import numpy as np

from tests.helpers.small_index import clustered_rows, indexed, names_of, nearest

DIMENSIONS = 32


class Rows:
    """All rows that each name has had."""

    def __init__(self, rows):
        self.all = {name: [row] for name, row in zip(names_of(len(rows)), rows, strict=True)}

    def right(self, query, hits, k):
        if len(hits.names) != k or len(set(hits.names)) != k or (np.diff(hits.scores) > 0).any():
            return False
        pairs = zip(hits.names, hits.scores, strict=True)
        return all(any(abs(row @ query - score) < 1e-5 for row in list(self.all[name])) for name, score in pairs)


def main(folder, changes, photos=30_000, searchers=2, **options):
    from export.indexes.open_index import open_index

    folder = Path(folder)
    rows = clustered_rows(photos, DIMENSIONS, 300)
    known, here = Rows(rows), dict(zip(names_of(photos), rows, strict=True))
    index = open_index(indexed(folder, rows, **options))
    queries = clustered_rows(200, DIMENSIONS, 300, seed=7)
    errors, searches, slowest, done = [], [0] * searchers, [0.0] * searchers, threading.Event()

    def search(number):
        chance = np.random.default_rng(number)
        while not done.is_set():
            query = queries[chance.integers(len(queries))]
            started = time.monotonic()
            try:
                (hits,) = index.search(query[None], 10)
            except Exception as error:
                errors.append(repr(error))
                return
            slowest[number] = max(slowest[number], time.monotonic() - started)
            if not known.right(query, hits, 10):
                errors.append(f"a wrong answer: {hits}")
            searches[number] += 1

    threads = [threading.Thread(target=search, args=(number,)) for number in range(searchers)]
    for thread in threads:
        thread.start()
    chance = np.random.default_rng(1)
    new = clustered_rows(changes, DIMENSIONS, 300, seed=8)
    for number in range(changes):
        name = f"{chance.integers(photos + changes // 2)}.jpg"
        if number % 2:
            known.all.setdefault(name, []).append(new[number])
            index.add([name], new[number : number + 1])
            here[name] = new[number]
        elif index.delete([name]) != (here.pop(name, None) is not None):
            errors.append(f"{name} was deleted although it was not there, or the reverse")
    index.close()
    done.set()
    for thread in threads:
        thread.join()
    names = list(here)
    if sorted(names) != sorted(index.names):
        errors.append("the names at the end are wrong")
    if not np.array_equal(index.vectors(names), np.stack(list(here.values()))):
        errors.append("the rows at the end are wrong")
    living, rebuilt = compared(folder, index, names, np.stack(list(here.values())), queries, options)
    print(f"{changes} changes, {sum(searches)} searches meanwhile, {len(errors)} errors {errors[:3]}")
    print(f"segment {index.facts['segment']}; slowest search {max(slowest):.3f} s")
    print(f"recall@10 {living:.4f}, of a rebuild {rebuilt:.4f}")
    if errors or living < rebuilt - 0.01:
        raise SystemExit(1)
    return living, rebuilt


def compared(folder, index, names, rows, queries, options):
    """The recall of an index and of a new one."""
    from export.indexes.open_index import open_index

    rebuilt = open_index(indexed(folder / "rebuilt", rows, names, **options))
    truth = [{names[row] for row in found} for found in nearest(rows, queries, 10)]
    figures = []
    for place in (index, rebuilt):
        hits = place.search(queries, 10)
        figures.append(np.mean([len(true & set(one.names)) / 10 for true, one in zip(truth, hits, strict=True)]))
    return figures


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))
