"""Folders written in shards: which are continued, which are started over, and which are left unchanged."""

import json

import numpy as np
import pytest

from pipelines.files.durable import FolderError, read_manifest, read_names, write_file
from pipelines.files.shards import PLAN, RUN, ShardedFolder, read_left_out

FIX = "name another folder"


DAMAGED_PLANS = [
    "", "{", "\xff", '"a"', "5", "null", "[]", "{}", '{"fingerprint": "FINGERPRINT"}',
    '{"fingerprint": "FINGERPRINT", "plan": 5}', '{"fingerprint": "FINGERPRINT", "plan": []}',
    '{"fingerprint": "FINGERPRINT", "plan": {}}', '{"fingerprint": "FINGERPRINT", "plan": null}',
]  # fmt: skip


def sharded(tmp_path, fingerprint="a"):
    return ShardedFolder(tmp_path / "out", "letters", 1, fingerprint)


def write(folder, number, names, left_out=(), **facts):
    write_file(folder.partial / f"letters-{number}.txt", "".join(names))
    folder.finish(number, names, dict(left_out), **facts)


def complete(folder):
    folder.start()
    write(folder, 0, ["a"])
    folder.join({})
    folder.seal(replace=True)


def test_shards_without_a_note_are_unfinished(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = sharded(tmp_path)
    assert folder.start(lambda: {"letters": [("a", 1)]}, lambda plan: len(plan["letters"])) == 1
    assert folder.unfinished(["ab", "cd", "ef"]) == {0: "ab", 1: "cd", 2: "ef"}
    assert caplog.text == ""
    write(folder, 1, ["c", "d"])
    write_file(folder.partial / "letters-2.txt", "e")
    assert sharded(tmp_path).unfinished(["ab", "cd", "ef"]) == {0: "ab", 2: "ef"}
    assert "1 of 3 shards are already complete" in caplog.text


def test_the_plan_of_a_run_that_is_continued_is_kept(tmp_path):
    sharded(tmp_path).start(lambda: [1, 2])
    assert sharded(tmp_path).start(lambda: pytest.fail("planned again"), tuple) == (1, 2)


def test_a_run_of_another_fingerprint_starts_over(tmp_path, caplog):
    folder = sharded(tmp_path)
    folder.start()
    write(folder, 0, ["a"])
    assert sharded(tmp_path, "b").start(lambda: 5) == 5
    assert "was left by a run with other photos or options: starting over" in caplog.text
    assert sorted(path.name for path in folder.partial.iterdir()) == [PLAN, RUN]


@pytest.mark.parametrize("content", DAMAGED_PLANS)
def test_a_plan_of_another_form_starts_over(tmp_path, content, caplog):
    folder = sharded(tmp_path)
    folder.partial.mkdir()
    (folder.partial / PLAN).write_bytes(content.replace("FINGERPRINT", folder.fingerprint).encode("latin-1"))
    assert folder.start(lambda: {"count": 7}, lambda plan: plan["count"]) == 7
    assert f"{folder.partial} has a damaged plan: starting over" in caplog.text


def test_what_no_run_wrote_is_left_alone(tmp_path):
    folder = sharded(tmp_path)
    folder.partial.mkdir()
    (folder.partial / "thesis.txt").touch()
    with pytest.raises(FolderError, match=r"out\.partial exists and is not unfinished work of this kind"):
        folder.start()
    assert (folder.partial / "thesis.txt").exists()


def test_a_plan_that_fails_leaves_nothing(tmp_path):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sharded(tmp_path).start(fail)
    assert list(tmp_path.iterdir()) == []


def test_notes_are_joined_in_the_order_of_shards(tmp_path):
    folder = sharded(tmp_path)
    folder.start()
    write(folder, 1, ["c"], {"x": "torn"}, size=1)
    write(folder, 0, ["b", "a"], size=2)
    names, left_out, notes = folder.join({"z": "lost"})
    assert (names, left_out) == (["b", "a", "c"], {"x": "torn", "z": "lost"})
    assert [note["size"] for note in notes] == [2, 1]
    assert folder.seal(replace=False, extra=3) == tmp_path / "out"
    assert not folder.partial.exists()
    assert read_names(tmp_path / "out" / "names.txt") == ["b", "a", "c"]
    assert read_left_out(tmp_path / "out") == left_out
    manifest = read_manifest(tmp_path / "out", kind="letters", version=1, verify=True)
    assert (manifest["fingerprint"], manifest["extra"]) == ("a", 3)
    assert not list((tmp_path / "out").glob(".*"))


def test_a_complete_folder_is_used_again_or_refused(tmp_path):
    folder = sharded(tmp_path)
    assert not folder.exists(replace=False, fix=FIX)
    complete(folder)
    assert folder.exists(replace=False, fix=FIX)
    assert folder.exists(replace=True, fix=FIX)
    other = sharded(tmp_path, "b")
    with pytest.raises(FolderError, match="out was made from other photos or options: name another folder"):
        other.exists(replace=False, fix=FIX)
    assert not other.exists(replace=True, fix=FIX)
    (tmp_path / "out" / "manifest.json").write_text(json.dumps({"kind": "others"}))
    with pytest.raises(FolderError, match="is damaged"):
        other.exists(replace=False, fix=FIX)
    assert not other.exists(replace=True, fix=FIX)


def test_discarded_shards_are_gone(tmp_path):
    folder = sharded(tmp_path)
    folder.start()
    write(folder, 0, [])
    folder.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_one_has_finished_says_so(tmp_path):
    sharded = ShardedFolder(tmp_path / "out", "rows", 1, "mine")
    sharded.start()
    sharded.discard()
    with pytest.raises(FolderError, match=r"out\.partial is gone: another run"), sharded.commit(0):
        pass


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", "half"])
def test_kept_rows_that_are_damaged_are_computed_again(tmp_path, caplog, content):
    sharded = ShardedFolder(tmp_path / "out", "rows", 1, "mine")
    sharded.start()
    for name in ("a", "b"):
        sharded.keep(0, np.ones((1, 2), np.float32), [name], {})
    path = sharded.partial / ".part-00000-00000.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert [names for _, names, _, _ in sharded.kept(0)] == [["b"]]
    assert f"{path} is damaged" in caplog.text
