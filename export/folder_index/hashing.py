"""Hashes the rows of a segment with ScaNN, with no more of them in memory than ScaNN is trained on.

ScaNN copies all rows that it builds a searcher from. Above `AT_ONCE`, it is given a sample only; processes of their own
then hash all rows block by block with the tree and the codes that were trained, because ScaNN hashes with one thread
and without releasing Python's lock. The files are the same as those of a build from all rows with this tree and codes.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from keras_retrieval.pipelines.files.arrays import load_array, save_blocks
from keras_retrieval.pipelines.files.child_process import clean_environment, failure, python_module
from keras_retrieval.pipelines.files.machine import cores

from keras_retrieval.ranking.rows import release

from ..index_contract.errors import IndexWriteError
from ..index_contract.index_settings import IndexSettings
from .scann_searcher import HASHES, SECOND_HASHES, TOKENS, ScannSearcher, hash_rows, load_searcher, train_searcher

AT_ONCE = 2**30  # bytes of rows that ScaNN may copy at once
BLOCK = 2**24  # bytes of rows that a process hashes at once
PROCESSES = 4  # at most; with 447 leaves, ScaNN takes 0.6 GB in each, whatever the size of the block
MODULE = "keras_retrieval.export.folder_index.hashing"


def write_hashes(folder: Path, file: Path, leaves: int, settings: IndexSettings) -> ScannSearcher:
    """Trains ScaNN's tree and hashes on rows, hashes all of them, and writes ScaNN's files.

    Args:
        folder: empty folder to write to; it is made if it does not exist.
        file: .npy file of the rows, (N, S) float32, finite, N >= 16.
        leaves: number of leaves of the tree, less than N; 0 to compare all hashes without a tree.
        settings: build settings of the hashes and of their training.

    Returns:
        The searcher over the N rows.

    Raises:
        MissingExtraError: ScaNN is not installed.
        IndexWriteError: a process that hashes has failed.
        DiskSpaceError: the disk is full.
    """
    rows = np.asarray(load_array(file, mapped=True))
    folder.mkdir(exist_ok=True)
    if rows.nbytes <= AT_ONCE:
        searcher = train_searcher(rows, leaves, settings)
        searcher.save(folder)
        release(rows)
        return searcher
    size = min(len(rows), max(settings.training_rows(leaves), settings.training_rows(0), 2 * leaves))
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), size, replace=False))
    train_searcher(rows[chosen], leaves, settings).save(folder)
    release(rows)
    parts = folder / "parts"
    parts.mkdir()
    _hash_in_processes(file, folder, parts, rows)
    for name in (TOKENS, HASHES, SECOND_HASHES):
        if (folder / name).exists():
            _join(folder / name, sorted(parts.glob(f"*-{name}")), len(rows), size)
    shutil.rmtree(parts)
    return load_searcher(folder, leaves)


def _hash_in_processes(file: Path, trained: Path, parts: Path, rows: np.ndarray) -> None:
    """Hashes all rows: each process an equal share, block by block, into files whose names sort in their order."""
    step = max(1, BLOCK // rows[0].nbytes)
    blocks = -(-len(rows) // step)
    count = min(blocks, cores(), PROCESSES)
    bounds = [round(number * blocks / count) * step for number in range(count + 1)]
    command = [*python_module(MODULE), *(str(path.absolute()) for path in (file, trained, parts)), str(step)]
    processes = []
    try:
        for start, end in pairwise(bounds):
            with (parts / f"{start:012}.log").open("wb") as said:
                share = [str(start), str(min(end, len(rows)))]
                processes.append(
                    subprocess.Popen([*command, *share], stdin=subprocess.DEVNULL, stderr=said, env=clean_environment())
                )
        for process, start in zip(processes, bounds, strict=False):
            if process.wait():
                text = (parts / f"{start:012}.log").read_text(encoding="utf-8", errors="backslashreplace")
                reason = failure(process.returncode, text.splitlines())
                raise IndexWriteError(f"a process that hashes rows failed: {reason}")
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _join(path: Path, parts: list[Path], count: int, trained: int) -> None:
    """Joins the arrays of the blocks to that of all `count` rows; `path` has that of the `trained` rows."""
    first = load_array(path, mapped=True)
    shape = (len(first) // trained * count, *first.shape[1:])  # one or two leaves a row

    def blocks() -> Iterator[np.ndarray]:
        for part in parts:
            yield load_array(part)
            part.unlink()

    save_blocks(path, blocks(), shape, first.dtype)


def main() -> None:
    """Hashes some rows: FILE TRAINED PARTS BLOCK START END. It ends when the process that started it has ended."""
    file, trained, parts = (Path(text) for text in sys.argv[1:4])
    step, start, end = (int(text) for text in sys.argv[4:])
    rows, parent = np.asarray(load_array(file, mapped=True)), os.getppid()
    working = parts / f"{start:012}"
    for first in range(start, end, step):
        if os.getppid() != parent:
            return
        working.mkdir()
        hash_rows(trained, rows[first : min(first + step, end)], working)
        release(rows)
        for name in (TOKENS, HASHES, SECOND_HASHES):
            if (working / name).exists():
                (working / name).rename(parts / f"{first:012}-{name}")
        shutil.rmtree(working)


if __name__ == "__main__":
    main()
