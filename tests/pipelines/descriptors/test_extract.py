"""Extraction: each row belongs to its photo, unreadable photos are named, and a kill loses at most one shard."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_retrieval
from pipelines.descriptors import extraction
from pipelines.descriptors.describer import NoDescriptorsError
from pipelines.descriptors.extract import extract
from pipelines.descriptors.extraction import extract_descriptors
from pipelines.descriptors.folder import read_descriptors
from pipelines.descriptors.options import ExtractOptions
from pipelines.files.durable import FolderError, partial_of, read_manifest
from pipelines.files.remote import RemoteFolder
from pipelines.files.shards import PLAN, read_left_out
from pipelines.networks.errors import NetworkError
from pipelines.photos.reader import PhotoError, read_photo
from pipelines.photos.reading import Reading
from tests.helpers.odd_photos import mutations
from tests.helpers.small import draw, draw_folder, network, saved_network, shards
from tests.helpers.worker_threads import together

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved_network(tmp_path_factory.mktemp("network")))


@pytest.fixture
def photos(tmp_path):
    draw_folder(tmp_path / "photos", 10)
    return tmp_path / "photos"


@pytest.mark.parametrize("output", ["out", "memory://refused/out"])
def test_a_network_that_its_runtime_refuses_leaves_nothing(small, photos, tmp_path, monkeypatch, output):
    def refuse(*_, **__):
        raise NetworkError("the runtime does not compute it")

    output = output if "://" in output else str(tmp_path / output)
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "describer", refuse)
        with pytest.raises(NetworkError, match="does not compute"):
            extract(small, photos, output)
    left = RemoteFolder(output).files(required=False) if "://" in output else list(tmp_path.glob("out*"))
    assert not left
    # What was stored before stays for the next run.
    with monkeypatch.context() as patched:
        patched.setattr(extraction, "run_units", lambda job, todo, worker, **_: _then_refuse(job, todo, worker, refuse))
        with pytest.raises(NetworkError):
            extract(small, photos, output, shard=4)
    assert RemoteFolder(output).files() if "://" in output else partial_of(tmp_path / "out").exists()


def _then_refuse(job, todo, worker, refuse):
    number, photos = next(iter(todo.items()))
    worker(number, photos, lambda _: None)
    refuse()


def one_by_one(model, folder, names, scales=(1.0,), size=1024):
    """Descriptors by eager calls of one photo each."""
    model = keras_retrieval.multi_scale(model, scales)
    rows = [model(read_photo(folder / name, size=size)[None].astype("float32"))[0] for name in names]
    return np.stack([keras.ops.convert_to_numpy(row) for row in rows])


def cosines(a, b):
    return (a * b).sum(axis=1)


@pytest.mark.parametrize(("scales", "size"), [("1", 1024), ("1,0.7071,0.5", 1024), ("1", 45), ("0.7071", 1024)])
def test_rows_are_those_of_single_photos_in_the_order_of_names(small, photos, tmp_path, scales, size):
    draw(photos / "deep" / "large photo ü.png", 120, 200, seed=90)
    folder = extract(small, photos, tmp_path / "out", scales=scales, size=size, shard=4)
    found, names, manifest = read_descriptors(folder)
    factors = tuple(float(scale) for scale in scales.split(","))
    expected = one_by_one(keras.saving.load_model(small), photos, names, factors, size)
    rows = np.concatenate(found)
    assert sorted(names) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert rows.dtype == np.float32
    assert cosines(rows, expected).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert (manifest["count"], manifest["dimensions"], manifest["left_out"]) == (11, 16, 0)
    assert len(found) == 3


@pytest.mark.kernels
def test_rows_of_alexnet_are_those_of_single_photos(tmp_path, photos):
    model = keras_retrieval.build("alexnet_rmac", weights=None)
    for number, side in enumerate((80, 97, 130)):
        draw(photos / f"large-{number}.png", side, 160 - number, seed=50 + number)
    for path in photos.glob("0*.png"):
        path.unlink()
    model.save(tmp_path / "alexnet.keras")
    folder = extract(str(tmp_path / "alexnet.keras"), photos, tmp_path / "out")
    _, names, _ = read_descriptors(folder)
    assert cosines(shards(folder), one_by_one(model, photos, names)).min() >= 0.99999


@pytest.mark.parametrize("scales", ["1", "1,0.7071,0.5", "0.5,2"])
def test_tiny_photos_are_padded_by_their_edges(small, tmp_path, scales):
    photos = tmp_path / "photos"
    for side in range(1, 21):
        draw(photos / f"{side:02}.png", side, 21 - side, seed=side)
    folder = extract(small, photos, tmp_path / "out", scales=scales)
    assert read_left_out(folder) == {}
    assert len(shards(folder)) == 20
    np.testing.assert_allclose(np.linalg.norm(shards(folder), axis=1), 1, atol=1e-4)


def test_photos_left_out_are_told_with_their_reasons(small, photos, tmp_path, caplog):
    caplog.set_level("INFO")
    (photos / "text.jpg").write_text("no photo")
    whole = (photos / "000.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").write_bytes(b"")
    (photos / "linked.png").symlink_to(tmp_path / "nowhere.png")
    folder = extract(small, photos, tmp_path / "out")
    left_out = read_left_out(folder)
    assert set(left_out) == {"text.jpg", "cut.png", "empty.png", "linked.png"}
    assert left_out["empty.png"] == "empty file"
    assert "truncated" in left_out["cut.png"]
    logged = caplog.text
    assert "10 photos described; 4 files left out; 0 ignored" in logged
    assert all(f"{name}: {reason}" in logged for name, reason in left_out.items())
    _, names, manifest = read_descriptors(folder)
    assert len(names) == manifest["count"] == 10
    assert not set(names) & set(left_out)


@pytest.mark.parametrize("cut", [4, 90], ids=["header", "pixels"])
def test_nothing_but_broken_photos_is_an_error(small, photos, tmp_path, cut):
    for path in photos.iterdir():
        path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(
        ValueError,
        match=r"(none of the 10 photos can be read|contains no photo; left out: 10 x .*); the first: 0.*png: ",
    ):
        extract(small, photos, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    draw_folder(photos, 10)
    assert len(shards(extract(small, photos, tmp_path / "out"))) == 10


@pytest.mark.parametrize("value", [0, np.nan])
def test_a_network_that_describes_nothing_is_named_and_not_the_photos(small, photos, tmp_path, monkeypatch, value):
    broken = np.full((10, 16), value, "float32")
    monkeypatch.setattr(
        "pipelines.descriptors.extraction.describer", lambda *_, **__: lambda images: broken[: len(images)]
    )
    (photos / "000.png").write_bytes(b"no photo")
    with pytest.raises(NoDescriptorsError, match=r"of all 9 readable photos .* diverged .*lower --lr"):
        extract(small, photos, tmp_path / "out")


def test_a_photo_that_changes_after_its_header_was_read_is_left_out(small, photos, tmp_path, monkeypatch):
    shape = Reading.shape

    def then_change(self, name, crop=None):
        found = shape(self, name, crop)
        if name == "003.png":
            draw(photos / name, 70, 90)
        return found

    monkeypatch.setattr(Reading, "shape", then_change)
    folder = extract(small, photos, tmp_path / "out")
    assert read_left_out(folder) == {"003.png": "it has changed since its size was read"}
    assert len(shards(folder)) == 9


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_descriptors_that_are_zero_or_not_finite_are_left_out(photos, tmp_path, value):
    model = network()
    model.get_layer("trunk").layers[-1].set_weights([np.zeros((3, 3, 8, 16)), np.full(16, value)])
    images = model.input
    flat = keras.Model(images, keras.layers.GlobalMaxPooling2D()(model.get_layer("trunk")(images)), name="flat")
    flat.save(tmp_path / "broken.keras")
    with pytest.raises(ValueError, match="zero or not finite"):
        extract(str(tmp_path / "broken.keras"), photos, tmp_path / "out")


def test_bfloat16_says_how_close_it_stays(small, photos, tmp_path, caplog):
    caplog.set_level("INFO")
    exact = shards(extract(small, photos, tmp_path / "exact"))
    folder = extract(small, photos, tmp_path / "rounded", precision="bfloat16")
    told = read_manifest(folder, kind="descriptors", version=1)["bfloat16_cosine"]
    measured = cosines(exact, shards(folder))
    assert told["photos"] == 10
    assert told["min"] == pytest.approx(measured.min(), abs=1e-5)
    assert 0.999 <= measured.min() < 1
    assert (exact != shards(folder)).any()
    assert f"at least {told['min']:.6f} on 10 photos" in caplog.text


def test_bfloat16_asks_for_a_trunk(photos, tmp_path):
    images = keras.Input((None, None, 3))
    rows = keras.layers.UnitNormalization()(keras.layers.GlobalMaxPooling2D()(images))
    keras.Model(images, rows, name="flat").save(tmp_path / "flat.keras")
    with pytest.raises(ValueError, match="flat has no trunk"):
        extract(str(tmp_path / "flat.keras"), photos, tmp_path / "out", precision="bfloat16")


def test_again_is_done_already_and_other_options_ask_for_replace(small, photos, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    folder = extract(small, photos, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert extract(small, photos, tmp_path / "out") == folder
    assert "already complete" in caplog.text
    assert "out: 10 photos x 16 dimensions" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    with pytest.raises(ValueError, match="other photos or options: --replace"):
        extract(small, photos, folder, size=32)
    draw(photos / "000.png", 44, 44, seed=99)
    with pytest.raises(ValueError, match="other photos or options: --replace"):
        extract(small, photos, folder)
    extract(small, photos, folder, replace=True)
    assert extract(small, photos, folder) == folder
    assert len(shards(folder)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_replace_takes_only_descriptors_away(small, photos, tmp_path):
    with pytest.raises(FolderError, match="not a folder of descriptors and will not be replaced"):
        extract(small, photos, photos, replace=True)
    assert len(list(photos.iterdir())) == 10
    (tmp_path / "file").write_text("mine")
    for replace in (False, True):
        with pytest.raises(FolderError, match="file"):
            extract(small, photos, tmp_path / "file", replace=replace)
    (tmp_path / "empty").mkdir()
    assert len(shards(extract(small, photos, tmp_path / "empty", replace=True))) == 10


def test_a_folder_named_partial_that_is_not_ours_is_left_alone(small, photos, tmp_path):
    mine = tmp_path / "out.partial" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(FolderError, match="is not unfinished work of this kind"):
        extract(small, photos, tmp_path / "out")
    assert mine.read_text() == "mine"


def test_a_file_in_place_of_the_parent_folder_is_an_error(small, photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="file is a file, where a folder is needed"):
        extract(small, photos, tmp_path / "file" / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_an_error(small, photos, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        extract(small, photos, tmp_path / "locked" / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "--size must be at least 1, got 0"),
        ({"shard": 0}, "--shard must be at least 1, got 0"),
        ({"scales": ""}, "--scales"),
        ({"scales": "1,x"}, "--scales"),
        ({"scales": "0"}, "--scales"),
        ({"scales": "nan"}, "--scales"),
        ({"scales": "1,,2"}, "--scales"),
        ({"max_pixels": 1}, "none of the 10 photos can be read; the first: 000.png: too many pixels"),
    ],
)
def test_options_out_of_range_are_named(small, photos, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        extract(small, photos, tmp_path / "out", **options)


def test_a_network_that_is_none_is_named(photos, tmp_path):
    (tmp_path / "garbage.keras").write_bytes(b"PK\x03\x04 no network")
    images = keras.Input((64, 64, 3))
    rows = keras.layers.UnitNormalization()(keras.layers.GlobalMaxPooling2D()(images))
    keras.Model(images, rows, name="fixed").save(tmp_path / "fixed.keras")
    messages = {
        str(tmp_path / "missing.keras"): "no network at .*missing.keras",
        str(tmp_path / "garbage.keras"): "garbage.keras could not be loaded",
        str(tmp_path / "model.h5"): "MODEL must be a .keras file, an .onnx file or a name",
        str(tmp_path / "fixed.keras"): "not photos of any size",
        "vgg17_gem": "nearest is 'vgg1",
    }
    for model, message in messages.items():
        with pytest.raises(ValueError, match=message):
            extract(model, photos, tmp_path / "out")


def test_a_folder_without_photos_is_an_error(small, tmp_path):
    with pytest.raises(ValueError, match="contains no photo"):
        extract(small, tmp_path, tmp_path / "out")


def test_names_may_hold_spaces_line_breaks_and_any_script(small, tmp_path):
    photos = tmp_path / "photos"
    odd = ["a b.png", "line\nbreak.png", 'quote".png', "tab\t.png", "日本 é \u2028.png", "<b>&.png", "deep/\\.png"]
    for number, name in enumerate(odd):
        draw(photos / name, 40, 40 + number, seed=number)
    _, names, _ = read_descriptors(extract(small, photos, tmp_path / "out"))
    assert names == odd


SLOW_EXTRACT = """
import sys, time
from keras_retrieval.__main__ import main
from keras_retrieval.pipelines.photos import reading
read = reading.read_photo
reading.read_photo = lambda *args, **options: (time.sleep(0.03), read(*args, **options))[1]
main(sys.argv[1:])
"""


def killed(command, folder, shards_done):
    """Runs a command that reads slowly, ends it by SIGKILL after so many shards; returns their times of writing."""
    process = subprocess.Popen([sys.executable, "-c", SLOW_EXTRACT, *command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while len(list(folder.glob(".shard-*.json"))) < shards_done:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = [int(path.stem.split("-")[1]) for path in folder.glob(".shard-*.json")]
    return {f"descriptors-{number:05}.npy": times(folder)[f"descriptors-{number:05}.npy"] for number in done}


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("descriptors-*.npy")}


def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(small, tmp_path, caplog):
    caplog.set_level("INFO")
    photos, model = tmp_path / "photos", Path(small)
    for number in range(60):
        draw(photos / f"{number:03}.png", 40 + 8 * (number % 5), 56, seed=number)
    partial = partial_of(tmp_path / "out")
    done = killed(["extract", model, photos, tmp_path / "out", "--shard", "4"], partial, shards_done=3)
    assert not (tmp_path / "out").exists()
    assert 3 <= len(done) < 15
    folder = extract(str(model), photos, tmp_path / "out", shard=4)
    assert f"{len(done)} of 15 shards are already complete" in caplog.text
    assert done.items() <= times(folder).items()
    unbroken = extract(str(model), photos, tmp_path / "unbroken", shard=4)
    assert read_descriptors(folder)[1] == read_descriptors(unbroken)[1]
    np.testing.assert_allclose(shards(folder), shards(unbroken), rtol=0, atol=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in unbroken.iterdir())
    assert not partial.exists()


def stop(*_, **__):
    raise KeyboardInterrupt


def test_a_run_that_ends_before_its_last_step_loses_no_shard(small, photos, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.files.shards.seal", stop)
        with pytest.raises(KeyboardInterrupt):
            extract(small, photos, tmp_path / "out", shard=3)
    before = times(partial_of(tmp_path / "out"))
    folder = extract(small, photos, tmp_path / "out", shard=3)
    assert len(before) == 4
    assert times(folder) == before
    assert not list(folder.glob(".*"))


def test_too_little_space_is_told_before_anything_is_described(small, photos, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=10 * 16 * 4 - 1))
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.descriptors.extraction.describe_photos", None)
        with pytest.raises(OSError, match=r"out needs 0\.7 kB, and 0\.7 kB are free"):
            extract(small, photos, tmp_path / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=10 * 16 * 4))
    assert len(shards(extract(small, photos, tmp_path / "out"))) == 10


def test_a_slow_shard_keeps_what_it_has_described(small, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.descriptors.extraction.STORED_EVERY", 0.0)
    whole = extract(small, photos, tmp_path / "whole")
    described, plain = [], Reading.read

    def read(self, name, crop=None):
        if len(described) == 7:
            raise KeyboardInterrupt
        described.append(name)
        return plain(self, name, crop)

    with monkeypatch.context() as patch:
        patch.setattr(Reading, "read", read)
        patch.setattr("pipelines.descriptors.describer.BATCH_PIXELS", 1, raising=False)
        with pytest.raises(KeyboardInterrupt):
            extract(small, photos, tmp_path / "out")
    stored = list(partial_of(tmp_path / "out").glob(".part-00000-*.npz"))
    kept = sum(len(np.load(path)["rows"]) for path in stored)
    assert kept
    again: list[str] = []
    monkeypatch.setattr(Reading, "read", lambda self, name, crop=None: again.append(name) or plain(self, name, crop))
    folder = extract(small, photos, tmp_path / "out")
    assert len(again) == 10 - kept
    assert read_descriptors(folder)[1] == read_descriptors(whole)[1]
    np.testing.assert_allclose(shards(folder), shards(whole), atol=1e-6)
    assert not list(folder.glob(".part-*"))


def test_a_killed_run_with_other_options_is_begun_anew(small, photos, tmp_path, caplog):
    caplog.set_level("INFO")
    partial = partial_of(tmp_path / "out")
    partial.mkdir()
    (partial / PLAN).write_text(json.dumps({"fingerprint": "another", "plan": {"photos": [], "left_out": {}}}))
    (partial / "descriptors-00007.npy").write_bytes(b"of another run")
    folder = extract(small, photos, tmp_path / "out")
    assert "starting over" in caplog.text
    assert list(times(folder)) == ["descriptors-00000.npy"]


def test_the_plan_of_a_killed_run_stands_when_a_photo_can_be_read_only_now(small, photos, tmp_path, monkeypatch):
    """Otherwise the rows of the shards made before would be those of other photos."""
    (photos / "000.png").rename(tmp_path / "kept.png")
    (photos / "000.png").symlink_to(tmp_path / "kept.png")
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.files.shards.ShardedFolder.join", stop)
        patch.setattr(Reading, "shape", refusing("000.png", Reading.shape))
        with pytest.raises(KeyboardInterrupt):
            extract(small, photos, tmp_path / "out", shard=3)
    folder = extract(small, photos, tmp_path / "out", shard=3)
    _, names, _ = read_descriptors(folder)
    assert read_left_out(folder) == {"000.png": "the system cannot read it"}
    assert cosines(shards(folder), one_by_one(keras.saving.load_model(small), photos, names)).min() >= 0.99999


def refusing(refused, shape):
    def answer(self, name, crop=None):
        if name == refused:
            raise PhotoError(name, "the system cannot read it")
        return shape(self, name, crop)

    return answer


@pytest.mark.parametrize("count", [2500, pytest.param(10_000, marks=pytest.mark.long)])
def test_thousands_of_mutations_give_a_reason_or_a_unit_descriptor(small, tmp_path, count):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, data in enumerate(mutations(7, count)):
        (photos / f"{number:05}.jpg").write_bytes(data)
    folder = extract(small, photos, tmp_path / "out", size=64, max_pixels=2**20, shard=count // 5 * 2)
    _, names, _ = read_descriptors(folder)
    left_out = read_left_out(folder)
    rows = shards(folder)
    assert len(names) + len(left_out) == count
    assert set(names) | set(left_out) == {f"{number:05}.jpg" for number in range(count)}
    assert len(names) > count / 10
    assert len(left_out) > count / 10
    assert all(left_out.values())
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)


def test_auto_takes_the_precision_of_what_is_there_and_resumes_float32(small, photos, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    out = extract(small, photos, tmp_path / "out")
    assert not read_manifest(out, kind="descriptors", version=1)["bfloat16"]
    monkeypatch.setenv("KERAS_RETRIEVAL_PRECISION", "bfloat16")
    before = times(out)
    assert times(extract(small, photos, out)) == before, "it is complete"
    assert f"{out} is already complete" in caplog.text
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.files.shards.seal", stop)
        patch.setenv("KERAS_RETRIEVAL_PRECISION", "float32")
        with pytest.raises(KeyboardInterrupt):
            extract(small, photos, tmp_path / "broken")
    broken = extract(small, photos, tmp_path / "broken")
    assert not read_manifest(broken, kind="descriptors", version=1)["bfloat16"]
    assert "precision: float32 (as it was begun)" in caplog.text
    assert read_manifest(extract(small, photos, tmp_path / "new"), kind="descriptors", version=1)["bfloat16"]
    with pytest.raises(FolderError, match="was made from other photos or options"):
        extract(small, photos, out, precision="bfloat16")


def test_processes_that_share_the_work_describe_each_photo_once(small, photos, tmp_path, monkeypatch):
    alone = extract(small, photos, tmp_path / "alone", precision="float32")
    (photos / "broken.png").write_bytes(b"no photo")
    read = {}
    plain = Reading.read
    monkeypatch.setattr(Reading, "read", lambda self, name: (read.setdefault(name, []).append(1), plain(self, name))[1])
    network = keras.saving.load_model(small)
    monkeypatch.setattr(extraction, "load_model", lambda model: network)
    options = ExtractOptions(small, photos, tmp_path / "out", precision="float32", runtime="tensorflow", replace=True)
    folders = together(lambda workers: extract_descriptors(options, workers), 3)
    assert set(folders) == {tmp_path / "out"}
    (rows, names, manifest), (expected, of_one, _) = read_descriptors(folders[0]), read_descriptors(alone)
    assert names == of_one
    assert [len(shard) for shard in rows] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate(rows), np.concatenate(expected), atol=1e-6)
    assert {name: len(times) for name, times in read.items()} == dict.fromkeys(names, 1)
    assert manifest["left_out"] == 1
