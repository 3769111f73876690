"""An update that is killed at any moment, also twice in a row, loses no more than the photos in the network."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.small_collection import opened, use_fake_network, write_photo, write_photos

ROOT = Path(__file__).resolve().parents[3]


def run(folder, size=16):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.killed_collection", str(folder), str(size)],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def killed_after(folder, lines, size=16):
    """Kills an update after some lines of progress, or lets it end; returns the last number of photos done."""
    done = "0"
    with run(folder, size) as process:
        for _ in range(lines):
            line = process.stdout.readline().strip()
            if line == "complete":
                break
            done = line or done
        process.kill()
    return int(done)


@pytest.mark.parametrize("size", [16, 8])  # with the first index, and while a second one is built beside it
def test_kills_lose_seconds_only(tmp_path, monkeypatch, size):
    folder = tmp_path / "photos"
    names = write_photos(folder, 24)
    calls = []
    use_fake_network(monkeypatch, log=calls)
    if size == 8:
        with opened(tmp_path) as collection:
            collection.update()
        calls.clear()
    done = 0
    for lines in (1, 4, 9, 2, 7):
        done += max(0, killed_after(tmp_path, lines, size) - 2)
        if done and done < 10:
            write_photo(folder / names[0], 90)
            (folder / names[1]).unlink(missing_ok=True)
    with opened(tmp_path, size=size) as collection:
        report = collection.update()
        on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        assert set(collection.names) == on_disk
        assert report.searchable == len(on_disk)
        assert sum(calls) <= len(names) + 1 - done
        assert collection.size == size
        for name in on_disk:
            assert collection.search(name, k=1).scores[0] == pytest.approx(1, abs=1e-5)
            assert collection.search(folder / name, k=1).names == [name]
        assert collection.update().described == 0
        assert [path.name for path in collection.state.glob("index-*")] == [f"index-00{1 + (size == 8)}"]
