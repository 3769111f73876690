"""Damages index folders at random: `python -m tests.helpers.index_faults FOLDER 500 [SEED]`.

Each damage is to one file of an index with added, replaced and deleted photos: bytes flipped, overwritten, cut off,
inserted or appended, the file emptied, removed, or swapped with another. Then a process opens the index and searches.
It must find what it found before, or raise FolderError; a crash or another result ends this with an error.
"""

import os
import random
import shutil
import sys
import traceback
from collections import Counter
from pathlib import Path

from tests.helpers.small_index import HASHED, TREE, clustered_rows, indexed, names_of


def make_index(folder, **options):
    """An index of 2,000 photos and the changes since."""
    from export.indexes.open_index import open_index

    index = open_index(indexed(folder, clustered_rows(2_000), **options))
    index.add(names_of(30, first=1_990), clustered_rows(30, seed=1))
    index.delete(names_of(20))
    index.add(names_of(5, first=5_000), clustered_rows(5, seed=2))


def answer(folder):
    """All names, and the neighbours of some queries with their scores, by the hashes and exactly."""
    from export.indexes.open_index import open_index

    index = open_index(folder)
    queries = clustered_rows(20, seed=3)
    found = index.search(queries, 10) + index.search(queries, 10, exact=True)
    return repr((index.names, [(hits.names, hits.scores.tolist()) for hits in found]))


def damage(folder, chance):
    """Damages one file; returns a description."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    path = chance.choice(files)
    text = bytearray(path.read_bytes())
    how = chance.choice(["flip", "overwrite", "cut", "insert", "append", "empty", "remove", "swap"])
    place = chance.randrange(max(1, len(text)))
    noise = chance.randbytes(chance.randint(1, 64))
    if how == "flip" and text:
        text[place] ^= 1 << chance.randrange(8)
    elif how == "overwrite":
        text[place : place + len(noise)] = noise
    elif how == "cut":
        del text[place:]
    elif how == "insert":
        text[place:place] = noise
    elif how == "append":
        text += noise
    elif how == "empty":
        text.clear()
    path.write_bytes(text)
    if how == "remove":
        path.unlink()
    if how == "swap":
        other = chance.choice([file for file in files if file != path])
        content = other.read_bytes()
        other.write_bytes(path.read_bytes())
        path.write_bytes(content)
    return f"{how} {path.name}"


def outcome(folder, expected):
    """The result of a search in a process of its own: "same", "refused", or a description of the failure."""
    from keras_retrieval.pipelines.files.durable import FolderError

    def search():
        try:
            return 0 if answer(folder) == expected.read_text() else 3
        except FolderError:
            return 1

    status = forked(search)
    if os.WIFSIGNALED(status):
        return f"crash by signal {os.WTERMSIG(status)}"
    return {0: "same", 1: "refused", 3: "another answer", 255: "another error"}[os.WEXITSTATUS(status)]


def forked(work):
    """Runs work() in a process of its own, so that no thread of ScaNN's is there when the next one is forked.

    Returns:
        How it ended, as `os.wait` tells; it exits with what the work returns, 255 after an exception.
    """
    child = os.fork()
    if not child:
        status = 255
        try:
            status = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def main(folder, rounds, seed=0):
    """Runs the rounds, a third each on an exact, a hashed and a tree index; the outcomes, counted."""
    import scann  # noqa: F401

    chance, outcomes = random.Random(seed), Counter()
    kinds = {"exact": {}, "hashed": HASHED, "tree": TREE | {"rows": "int8"}}
    for number, (kind, options) in enumerate(kinds.items()):
        whole, expected = Path(folder) / kind / "index", Path(folder) / f"{kind}.txt"
        if forked(lambda options=options, whole=whole: make_index(whole.parent, **options)) or forked(
            lambda whole=whole, expected=expected: expected.write_text(answer(whole)) and 0
        ):
            raise SystemExit(f"no {kind} index to damage")
        for _ in range(rounds // 3 + (number < rounds % 3)):
            copy = Path(folder) / "damaged"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(whole, copy)
            what = damage(copy, chance)
            result = outcome(copy, expected)
            outcomes[result] += 1
            if result not in ("same", "refused"):
                print(f"{kind}, {what}: {result}")
    print(f"{rounds} damages: {dict(outcomes)}")
    if set(outcomes) - {"same", "refused"}:
        raise SystemExit(1)
    return outcomes


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
