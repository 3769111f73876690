"""Folders that are written shard by shard at addresses: whole or not there, after a kill and beside another run."""

from hashlib import sha256

import numpy as np
import pytest

from pipelines.files.durable import MANIFEST, FolderError, read_manifest
from pipelines.files.remote import RemoteError, remote_folder
from pipelines.files.sharded_address import ShardedAddress, sharded_folder
from pipelines.files.shards import LEFT_OUT, NAMES, ShardedFolder
from pipelines.files.space import DiskSpaceError

pytest.importorskip("fsspec")

from pathlib import Path

from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage

PLACE = Path("faulty://bucket/out")
SHARDS = [["a", "b"], ["c"], ["d"]]


@pytest.fixture
def faults(monkeypatch):
    with faulty_storage(monkeypatch) as faults:
        yield faults


def address(fingerprint="mine"):
    return sharded_folder(PLACE, "descriptors", 1, fingerprint)


def write(sharded, number, names, fill=0.0):
    with sharded.commit(number) as folder:
        if folder is None:
            return False
        np.save(folder / f"descriptors-{number:05}.npy", np.full((len(names), 2), fill, np.float32))
        sharded.finish(number, names, {f"left-{number}": "broken"}, extra=number)
    return True


def run(sharded, *, replace=False, fill=0.0, before_seal=lambda: None):
    sharded.start(lambda: [1])
    for number, names in sharded.unfinished(SHARDS).items():
        assert write(sharded, number, names, fill)
    found = sharded.join({"z": "ignored"})
    before_seal()
    sharded.seal(replace=replace, count=4)
    return found


def stored():
    return {path.removeprefix("/bucket/out/") for path in FaultyFileSystem.store}


def test_a_place_decides_how_a_folder_is_written(tmp_path):
    assert isinstance(sharded_folder(tmp_path, "descriptors", 1, "mine"), ShardedFolder)
    assert isinstance(address(), ShardedAddress)


def test_a_folder_has_the_files_that_its_manifest_lists_and_no_others(faults):
    faults.every = 4
    names, reasons, notes = run(address())
    assert names == ["a", "b", "c", "d"]
    assert reasons == {"left-0": "broken", "left-1": "broken", "left-2": "broken", "z": "ignored"}
    assert [note["extra"] for note in notes] == [0, 1, 2]
    manifest = read_manifest(PLACE, kind="descriptors", version=1)
    assert stored() == {MANIFEST, *manifest["sha256"]}
    assert {NAMES, LEFT_OUT} < manifest["sha256"].keys()
    assert len(manifest["sha256"]) == 5
    assert address().exists(replace=False, fix="x")
    assert not address("other").exists(replace=True, fix="x")
    with pytest.raises(FolderError, match="faulty://bucket/out was made from other photos or options: --replace"):
        address("other").exists(replace=False, fix="--replace")


def test_the_manifest_is_written_last(faults):
    written = []
    met = faults.met
    faults.met = lambda request, path: (met(request, path), written.append(path) if request == "write" else None)
    run(address())
    assert written[-3:] == [f"/bucket/out/{name}" for name in (NAMES, LEFT_OUT, MANIFEST)]


def killed_at(faults, fatal):
    """Lets the process be taken for killed at one of its writes and removals."""
    met, left = faults.met, [fatal]

    def killed(request, path):
        met(request, path)
        if request in ("write", "remove"):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

    faults.met = killed
    return met


def read_whole(kind="descriptors"):
    """The fingerprint of the folder, all of whose files are there; None if it is not there."""
    if not remote_folder(PLACE).has(MANIFEST):
        return None
    manifest = read_manifest(PLACE, kind=kind, version=1)
    for name, checksum in manifest["sha256"].items():
        assert sha256(remote_folder(PLACE).read(name)).hexdigest() == checksum
    return manifest["fingerprint"]


@pytest.mark.parametrize("earlier", [False, True])
def test_a_run_that_ends_at_any_request_leaves_a_whole_folder_or_none_and_is_continued(faults, earlier):
    fatal, ended = 0, set()
    while True:
        FaultyFileSystem.store.clear()
        if earlier:
            run(address("old"))
        met = killed_at(faults, fatal)
        try:
            run(address(), replace=earlier, fill=1.0)
            break
        except KeyboardInterrupt:
            pass
        finally:
            faults.met = met
        ended.add(read_whole())
        if not address().exists(replace=True, fix="x"):
            address().check_free(replace=earlier)
            names, _, _ = run(address(), replace=earlier, fill=1.0)
            assert names == ["a", "b", "c", "d"]
        assert read_whole() == "mine"
        assert stored() == {MANIFEST, *read_manifest(PLACE, kind="descriptors", version=1)["sha256"]}
        fatal += 1
    assert fatal > 10
    assert ended == ({"old", None, "mine"} if earlier else {None, "mine"})


def test_an_earlier_folder_stays_until_it_is_replaced(faults):
    run(address("old"))
    before = read_manifest(PLACE, kind="descriptors", version=1)
    seen = []
    run(
        address("new"),
        replace=True,
        before_seal=lambda: seen.append(read_manifest(PLACE, kind="descriptors", version=1)),
    )
    assert seen == [before]
    after = read_manifest(PLACE, kind="descriptors", version=1)
    assert after["fingerprint"] == "new"
    assert stored() == {MANIFEST, *after["sha256"]}


def test_two_processes_may_finish_the_same_shard(faults):
    one, other = address(), address()
    one.start()
    other.start()
    with one.commit(0) as mine, other.commit(0) as theirs:
        for folder, fill in ((mine, 1), (theirs, 2)):
            np.save(folder / "descriptors-00000.npy", np.full((1, 2), fill, np.float32))
        other.finish(0, ["a"], {})
        one.finish(0, ["a"], {})
    with other.commit(0) as folder:
        assert folder is None
    one.unfinished([["a"]])
    one.join()
    one.seal(replace=False)
    assert len(stored()) == 4  # one of the two files


def test_a_run_that_has_ended_is_noticed_by_another_of_the_same_command(faults):
    first, second = address(), address()
    first.start()
    second.start()
    second.unfinished(SHARDS)
    run(first)
    for call in (second.join, lambda: write(second, 0, ["a"])):
        with pytest.raises(FolderError, match="another run of the same command has finished the folder"):
            call()


def test_a_run_that_was_overtaken_at_its_end_leaves_the_folder_as_it_is(faults):
    second = address()
    second.start()
    for number, names in second.unfinished(SHARDS).items():
        write(second, number, names)
    second.join()
    first = address()
    first.start()
    first.unfinished(SHARDS)
    first.join()
    first.seal(replace=False)
    manifest = read_manifest(PLACE, kind="descriptors", version=1)
    second.seal(replace=False)
    assert read_manifest(PLACE, kind="descriptors", version=1) == manifest


def test_a_run_with_other_options_starts_over(faults, caplog):
    old = address("old")
    old.start()
    old.unfinished(SHARDS)
    write(old, 0, ["a", "b"])
    new = address("new")
    new.check_free(replace=False)
    assert new.start(lambda: {"plan": 1}) == {"plan": 1}
    assert "was left by a run with other photos or options: starting over" in caplog.text
    assert not [name for name in stored() if "old" in name or name.endswith(".npy")]
    with pytest.raises(FolderError, match="or one with other photos or options has started over"):
        write(old, 1, ["c"])


@pytest.mark.parametrize("plan", ["", "{", "null", "5", "[1]", "{}", '{"fingerprint": "mine", "plan": []}'])
def test_a_plan_of_another_form_starts_over(faults, caplog, plan):
    sharded = address()
    sharded.start()
    sharded.unfinished(SHARDS)
    write(sharded, 0, ["a", "b"])
    remote_folder(PLACE / ".partial" / "mine").write("plan.json", plan.encode())
    assert address().start(lambda: {"count": 7}, lambda plan: plan["count"]) == 7
    assert "faulty://bucket/out/.partial/mine has a damaged plan: starting over" in caplog.text
    assert stored() == {".partial/mine/run", ".partial/mine/plan.json"}


def test_files_that_vanished_are_written_again(faults):
    sharded = address()
    sharded.start()
    for number, names in sharded.unfinished(SHARDS).items():
        write(sharded, number, names)
    sharded.join()
    gone = next(name for name in FaultyFileSystem.store if "descriptors-00001" in name)
    del FaultyFileSystem.store[gone]
    with pytest.raises(FolderError, match="were removed while it was written: run the command again"):
        sharded.seal(replace=False)
    assert address().unfinished(SHARDS) == {1: ["c"]}


@pytest.mark.parametrize("name", ["photo.jpg", "sub/descriptors-00000-0123456789ab.npy", "descriptors-00000.npy"])
def test_files_of_others_are_never_overwritten(faults, name):
    remote_folder(PLACE).write(name, b"mine")
    with pytest.raises(FolderError, match=f"will not be replaced .it contains {name}"):
        address().check_free(replace=True)


def test_a_manifest_of_another_kind_or_damaged_is_kept(faults):
    remote_folder(PLACE).write(MANIFEST, b"{")
    with pytest.raises(FolderError, match=r"it contains manifest\.json"):
        address().check_free(replace=True)
    with pytest.raises(FolderError, match=r"out/manifest\.json is damaged"):
        address().exists(replace=False, fix="")


def test_rows_of_unfinished_shards_are_kept(faults, caplog):
    sharded = address()
    sharded.start()
    sharded.keep(2, np.ones((1, 3), np.float32), ["a"], {"b": "broken"})
    sharded.keep(2, np.zeros((1, 3), np.float32), ["a"], {})
    sharded.keep(2, np.zeros((1, 3), np.float32), ["c"], {}, np.zeros((1, 4), np.float32))
    (first, second) = address().kept(2)
    assert (first[1], first[2], second[1]) == (["a"], {"b": "broken"}, ["c"])
    assert second[3].shape == (1, 4)
    name = next(name for name in FaultyFileSystem.store if "parts-00002/00000" in name)
    FaultyFileSystem.store[name] = type(FaultyFileSystem.store[name])(None, name, b"damaged")
    assert [part[1] for part in address().kept(2)] == [["a"], ["c"]]
    assert "its rows are computed again" in caplog.text
    write(sharded, 2, ["a"])
    assert address().kept(2) == []


def test_a_place_that_may_not_be_written_is_an_error_before_the_plan(faults):
    faults.error = PermissionError("Access Denied")
    met = faults.met
    faults.met = lambda request, path: met(request, path) if request != "write" else deny()

    def deny():
        raise faults.error

    with pytest.raises(RemoteError, match="Access Denied: the account has no right to this"):
        address().start(lambda: pytest.fail("the plan was made"))


@pytest.mark.parametrize("note", [b"", b"{", b"null", b"[]", b"{}", b'{"names": 5, "left_out": {}, "files": {}}'])
@pytest.mark.parametrize("place", ["bucket", "disk"])
def test_a_shard_whose_note_is_damaged_is_done_again(faults, tmp_path, place, note):
    sharded = address() if place == "bucket" else ShardedFolder(tmp_path / "out", "descriptors", 1, "mine")

    def do():
        sharded.start(lambda: [1])
        done = [number for number, names in sharded.unfinished(SHARDS).items() if write(sharded, number, names)]
        return done, sharded.join()[0]

    assert do() == ([0, 1, 2], ["a", "b", "c", "d"])
    if place == "bucket":
        sharded._work.write("shard-00001.json", note)
    else:
        (sharded.partial / ".shard-00001.json").write_bytes(note)
    with pytest.raises(FolderError, match=r"shard-00001.json was damaged: run the command again"):
        do()
    assert do() == ([1], ["a", "b", "c", "d"])


def maps(fingerprint="mine"):
    return sharded_folder(PLACE, "edge maps", 1, fingerprint, own_names=True)


def draw(sharded, *, replace=False, photos=("a", "sub/b", "c d")):
    """Writes maps as `edge-maps` does: a file of a name of its own for each photo, two in a shard."""
    sharded.start()
    for number, names in sharded.unfinished([photos[:2], photos[2:]]).items():
        with sharded.draft(number) as folder:
            for name in names:
                (folder / f"{name}.png").parent.mkdir(exist_ok=True)
                (folder / f"{name}.png").write_bytes(f"{name} by {sharded.fingerprint}".encode())
            with sharded.commit(number) as there:
                assert there == folder
                sharded.finish(number, names, {})
    sharded.join()
    sharded.seal(replace=replace)


@pytest.mark.parametrize("earlier", [False, True])
def test_files_with_names_of_their_own_are_whole_and_known_again_after_a_kill(faults, earlier):
    fatal, ended = 0, set()
    while True:
        FaultyFileSystem.store.clear()
        if earlier:
            draw(maps("old"), photos=("a", "old", "x"))
        met = killed_at(faults, fatal)
        try:
            draw(maps(), replace=earlier)
            break
        except KeyboardInterrupt:
            pass
        finally:
            faults.met = met
        ended.add(read_whole("edge maps"))
        if not maps().exists(replace=True, fix="x"):
            maps().check_free(replace=earlier)
            draw(maps(), replace=earlier)
        assert read_whole("edge maps") == "mine"
        assert stored() == {MANIFEST, NAMES, LEFT_OUT, "a.png", "sub/b.png", "c d.png"}
        fatal += 1
    assert fatal > 10
    assert ended == ({"old", None, "mine"} if earlier else {None, "mine"})


def test_an_upload_that_waited_for_the_storage_overwrites_no_file_of_a_later_run(faults):
    met, waiting = faults.met, []

    def waits(request, path):
        met(request, path)
        if request == "write" and path.endswith("sub/b.png") and not waiting:
            waiting.append(path)
            draw(maps("later"), replace=True)
            raise TimeoutError("the storage did not answer, for minutes")

    faults.met = waits
    with pytest.raises(FolderError, match="mine is gone: another run"):
        draw(maps("mine"))
    assert waiting
    assert read_whole("edge maps") == "later"
    assert FaultyFileSystem.store["/bucket/out/sub/b.png"].getvalue() == b"sub/b by later"


def test_a_run_with_other_photos_removes_the_files_of_a_killed_one_and_no_others(faults):
    met, faults.met = faults.met, lambda request, path: stop() if path.endswith("shard-00001.json") else None

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(maps("old"), photos=("old", "older", "oldest"))
    faults.met = met
    maps().check_free(replace=False)
    draw(maps())
    assert stored() == {MANIFEST, NAMES, LEFT_OUT, "a.png", "sub/b.png", "c d.png"}
    remote_folder(PLACE).write("theirs.png", b"mine")
    with pytest.raises(FolderError, match=r"will not be replaced .it contains theirs\.png"):
        maps("new").check_free(replace=True)


def with_local(fingerprint="mine"):
    return sharded_folder(PLACE, "descriptors", 1, fingerprint, inside={"local": "local features"})


def test_a_folder_inside_another_goes_with_it_when_it_is_replaced(faults):
    run(with_local("old"))
    inner = sharded_folder(PLACE / "local", "local features", 1, "inner")
    inner.start()
    inner.unfinished([["a"]])
    with inner.commit(0) as folder:
        np.save(folder / "features-00000.npy", np.zeros(1))
        inner.finish(0, ["a"], {})
    inner.join()
    inner.seal(replace=False)
    assert len([name for name in stored() if name.startswith("local/")]) == 4
    assert with_local("old").exists(replace=False, fix="")
    with_local().check_free(replace=True)
    kept = []
    run(with_local(), replace=True, before_seal=lambda: kept.append({name for name in stored() if "local/" in name}))
    assert len(kept[0]) == 4
    assert not [name for name in stored() if name.startswith("local/")]
    remote_folder(PLACE).write("local/photo.jpg", b"mine")
    with pytest.raises(FolderError, match=r"will not be replaced .it contains local/photo\.jpg"):
        with_local("new").check_free(replace=True)
    with pytest.raises(FolderError, match=r"it contains local/photo\.jpg"):
        address("new").check_free(replace=True)


@pytest.mark.parametrize("make", [address, maps])
def test_a_full_disk_of_this_machine_is_named_with_what_to_set(faults, make):
    sharded = make()
    sharded.start()
    with (
        pytest.raises(DiskSpaceError, match=r"x needs .* files of faulty://bucket/out are made there: TMPDIR names"),
        sharded.commit(0),
    ):
        raise DiskSpaceError("x needs more than is free")
    with sharded.commit(0) as folder:  # the shard can be tried again
        assert not list(folder.iterdir())
