"""Fills the disk while an index is written: `python -m tests.helpers.full_disk FOLDER 20 [unchecked]`.

An index is built, updated, given a column and compacted on file systems in memory (tmpfs, which only root may mount)
of as many sizes, from no free page to enough for all. Each time, the step must succeed, or end with an error that
states how much space is missing and where; the files must then be those of before, and the old index must answer as
before. After the file system has been enlarged, the same step must succeed. With "unchecked", `index` and compaction
do not check the space beforehand, so that the disk becomes full in the middle.
"""

import hashlib
import os
import re
import subprocess
import sys
import traceback
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.helpers.index_faults import answer, forked
from tests.helpers.small_index import HASHED, clustered_rows, descriptors, names_of

PAGE = 4096
PLENTY = 2**26
MISSING = re.compile(r"[\d,.]+ [kMG]B .*(missing|are free)")
ACTIONS = ("index", "update", "columns", "compact")
KINDS = {"exact": {}, "hashed": HASHED | {"rows": "int8"}}


def may_mount(folder):
    """Whether this process may mount file systems."""
    folder.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["umount", folder], check=True)
    return True


@contextmanager
def file_system(folder):
    """Mounts a file system in memory; yields a function that sets how many bytes are free."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "tmpfs", folder], check=True)

    def resize(free):
        facts = os.statvfs(folder)
        used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={max(PAGE, used + free)}", folder], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", folder], check=True)


def contents(folder):
    """The SHA-256 of each file, and the folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def act(action, place, options):
    """Runs one step as `keras-retrieval` does."""
    from export.indexes.index import index
    from export.indexes.update import update

    if action == "index":
        index(place.parent.parent / "descriptors", place, replace=place.exists(), **options)
    elif action == "update":
        update(str(place), add=place.parent.parent / "more", delete=["3.jpg"])
    elif action == "columns":  # a new one
        update(str(place), columns=place.parent.parent / "new.csv")
    else:
        update(str(place), compact=True)


def outcome(action, place, options, report):
    """How a step ended, in a process of its own: "done", "refused" or a description of the failure."""

    def work():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            act(action, place, options)
        except OSError as error:
            report.write_text(f"{type(error).__name__}: {error}")
            return 1
        except Exception:
            report.write_text(traceback.format_exc())
            return 2
        return 0

    status = forked(work)
    if os.WIFSIGNALED(status):
        return f"crash by signal {os.WTERMSIG(status)}"
    return {0: "done", 1: "refused"}.get(os.WEXITSTATUS(status), "another error")


def answers(place, file):
    """What an index answers, by a process of its own; "" without an index."""
    if not place.exists():
        return ""
    return file.read_text() if not forked(lambda: file.write_text(answer(place)) and 0) else "it cannot be opened"


def unchecked():
    """Makes writers begin without a check of the free space."""
    from export.folder_index import folder_index, writer

    writer.require_space = folder_index.require_space = lambda folder, size: None


def main(folder, sizes, kinds=KINDS, actions=ACTIONS):
    """Runs every action on every kind of index with every amount of free space; the outcomes, counted."""
    folder, outcomes, faults = Path(folder), Counter(), []
    for kind, options in kinds.items():
        home = folder / kind
        rows = clustered_rows(1_000)
        if forked(lambda home=home, rows=rows: bool(descriptors(home / "descriptors", rows)) and 0):
            raise SystemExit("no descriptors")
        descriptors(home / "more", clustered_rows(60, seed=5), names_of(60, first=970))
        lines = [f"{name},{number}" for number, name in enumerate(names_of(800))]
        (home / "new.csv").write_text("\n".join(["photo,number", *lines]), encoding="utf-8")
        for action in actions:
            needed = _needed(home, action, options)
            for free in np.linspace(0, needed * 1.05, sizes).astype(int).tolist():
                result, problems = attempt(home, action, options, free // PAGE * PAGE)
                outcomes[f"{kind} {action}: {result}"] += 1
                faults += [f"{kind} {action}, {free:,} bytes free: {problem}" for problem in problems]
    for outcome_, count in outcomes.items():
        print(f"{outcome_}: {count}")
    print("\n".join(faults) or "no faults")
    return outcomes, faults


def _prepared(home, action, options):
    place = home / "disk" / "index"
    if action == "index":
        return place
    if not (home / "whole").exists() and forked(lambda: act("index", home / "whole" / "index", options)):
        raise SystemExit("no index")
    subprocess.run(["cp", "-r", home / "whole" / "index", place], check=True)
    if action == "compact" and forked(lambda: act("update", place, options)):
        raise SystemExit("the index was not changed")
    return place


def _needed(home, action, options):
    """The most space that an action takes."""
    with file_system(home / "disk"):
        place = _prepared(home, action, options)
        before = os.statvfs(home / "disk").f_bfree
        if outcome(action, place, options, home / "report.txt") != "done":
            raise SystemExit((home / "report.txt").read_text())
        after = os.statvfs(home / "disk").f_bfree
        return max(PAGE, (before - after) * PAGE) + (place_size(place) if action == "compact" else 0)


def place_size(place):
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in place.rglob("*") if path.is_file())


def attempt(home, action, options, free):
    """One action with little space, and again with enough; how it ended, and the faults."""
    problems = []
    with file_system(home / "disk") as resize:
        place = _prepared(home, action, options)
        before, expected = contents(home / "disk"), answers(place, home / "answers.txt")
        resize(free)
        report = home / "report.txt"
        result = outcome(action, place, options, report)
        if result == "refused":
            if not MISSING.search(report.read_text()):
                problems.append(f"the error does not state the missing space: {report.read_text()}")
            left = {name for name, digest in contents(home / "disk").items() if before.get(name) != digest}
            left |= set(before) - set(contents(home / "disk"))
            if left:
                problems.append(f"files differ: {sorted(left)}")
            if answers(place, home / "answers.txt") != expected:
                problems.append("another answer")
        elif result != "done":
            problems.append(f"{result}: {report.read_text() if report.exists() else ''}")
        resize(PLENTY)
        if outcome(action, place, options, report) != "done":
            problems.append(f"the next change fails: {report.read_text()}")
        elif answers(place, home / "answers.txt") == "it cannot be opened":
            problems.append("the index cannot be opened after the next change")
    return result, problems


if __name__ == "__main__":
    import scann  # noqa: F401

    if sys.argv[3:] == ["unchecked"]:
        unchecked()
        found = main(sys.argv[1], int(sys.argv[2]), actions=("index", "compact"))
    else:
        found = main(sys.argv[1], int(sys.argv[2]))
    raise SystemExit(bool(found[1]))
