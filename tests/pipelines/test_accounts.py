"""Each step that takes a folder of photos accounts for every file of it, to the file."""

import json
import shutil

import pytest

from keras_retrieval.__main__ import main
from pipelines import classify, clean, edge_maps, evaluate, extract, pairs, reconstruct, tuples, whiten
from pipelines.descriptors.folder import read_descriptors
from pipelines.files.durable import read_manifest, read_names
from pipelines.files.shards import read_left_out
from pipelines.photos.intake import IGNORED, take_photos
from tests.helpers.odd_collection import entries_on_disk, make_odd_collection
from tests.helpers.small import saved_network

pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "photos"
    make_odd_collection(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved_network(tmp_path_factory.mktemp("network")))


def check(odd, used, reasons):
    """The used photos and the reasons are, together, what the file system lists, and each only once."""
    assert len(used) == len(set(used))
    assert not set(used) & set(reasons)
    assert set(used) | set(reasons) == entries_on_disk(odd)
    ignored = {name for name, reason in reasons.items() if reason.startswith(IGNORED)}
    assert ignored == set(take_photos(odd).ignored)


def test_extract(odd, small, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = extract(small, odd, tmp_path / "out", size=64)
    _, names, manifest = read_descriptors(folder)
    reasons = read_left_out(folder)
    check(odd, names, reasons)
    assert "truncated" in reasons["download/cut.jpg"]
    assert (manifest["count"], manifest["truncated"]) == (len(names), 0)
    assert manifest["count"] + manifest["left_out"] + manifest["ignored"] == len(entries_on_disk(odd))
    counts = (
        f"{manifest['count']} photos described; {manifest['left_out']} files left out; {manifest['ignored']} ignored"
    )
    assert counts in caplog.text


def test_extract_with_truncated_photos(odd, small, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = extract(small, odd, tmp_path / "out", size=64, accept_truncated=True, exclude=["camera/"])
    _, names, manifest = read_descriptors(folder)
    assert "download/cut.jpg" in names
    assert manifest["truncated"] == 1
    assert "photos described, 1 of them truncated;" in caplog.text
    reasons = read_left_out(folder)
    assert reasons["camera/a.JPG"] == IGNORED + "it matches --exclude"
    assert set(names) | set(reasons) == entries_on_disk(odd)


def test_edge_maps(odd, tmp_path, capsys):
    folder = edge_maps(odd, tmp_path / "maps", size=64)
    reasons = read_left_out(folder)
    assert read_manifest(folder, kind="edge maps", version=1)["count"] + len(reasons) == len(entries_on_disk(odd))
    assert take_photos(odd).account in capsys.readouterr().out


def test_names_are_shown_without_control_characters(odd, small, tmp_path, capsys):
    """Whatever a step prints of photos with odd names cannot change what a terminal shows."""
    photos = tmp_path / "bell\x07\nline" / "photos"
    make_odd_collection(photos)
    cut = (photos / "share" / "a.jpg").read_bytes()[:-900]
    (photos / "a\x1b[2Jcut\nline.jpg").write_bytes(cut)
    query = tmp_path / "query\x1b[2J\nline.jpg"
    shutil.copy(photos / "share" / "a.jpg", query)
    descriptors, index = str(tmp_path / "descriptors"), str(tmp_path / "index")
    for arguments in (
        ["edge-maps", str(photos), str(tmp_path / "maps"), "--size", "64"],
        ["edge-maps", str(photos), str(tmp_path / "none"), "--size", "64", "--include", "a*cut*"],
        ["extract", small, str(photos), descriptors, "--size", "64"],
        ["index", descriptors, index],
        ["search", index, str(query), "--k", "100"],
        ["search", index, str(photos / "missing.jpg")],
        ["tuples", str(photos), str(tmp_path / "tuples.npz"), "--objects", "folders", "--negatives", "1"],
        ["tuples", str(photos), str(tmp_path / "tuples.npz"), "--objects", "auto", "--negatives", "1"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        for text in (shown.out, shown.err, str(ended.value.code)):
            lines = text.splitlines()
            assert all(line.isprintable() for line in lines), [line for line in lines if not line.isprintable()]
            assert not [line for line in lines if line.startswith("line")]


def test_evaluate(odd, small, tmp_path):
    (tmp_path / "gnd.json").write_text('{"queries": [{"photo": "share/a.jpg", "positives": ["camera/a.JPG"]}]}')
    evaluate(small, dataset=str(tmp_path / "gnd.json"), photos=odd, output=tmp_path / "out", size=64)
    _, names, _ = read_descriptors(tmp_path / "out" / "database")
    check(odd, names, read_left_out(tmp_path / "out" / "database"))


def test_reconstruct(odd, tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    work = reconstruct(odd, tmp_path / "work", pairs="exhaustive", size=200, feature_count=100)
    reasons = read_left_out(work)
    assert set(reasons) == entries_on_disk(odd)  # photos of noise join no cluster, and each says why
    assert take_photos(odd).account in capsys.readouterr().out


def test_pairs(odd, small, tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    output = pairs(small, odd, tmp_path / "pairs.txt", size=64, neighbours=50)
    used = {name for line in output.read_text().splitlines() for name in line.split()}
    check(odd, used, json.loads((tmp_path / "pairs-left_out.json").read_text()))


def test_clean(odd, tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    twins = odd.with_name("twins")
    make_odd_collection(twins)
    for number in range(3):
        (twins / "camera" / f"twin-{number}.jpg").write_bytes((twins / "camera" / "a.JPG").read_bytes())
    out = clean(twins, tmp_path / "out", objects="folders", size=200, features=500, min_inliers=15)
    check(twins, read_names(out / "kept.txt"), read_left_out(out))
    assert take_photos(twins).account in capsys.readouterr().out


def test_tuples_classify_and_whiten_print_the_account(odd, small, tmp_path, caplog):
    caplog.set_level("INFO")
    account = take_photos(odd).account
    tuples(odd, tmp_path / "tuples.npz", negatives=1, objects="folders")
    assert account in caplog.text
    caplog.clear()
    with pytest.raises(ValueError):
        classify(odd, output=tmp_path / "run", model=small, min_photos=1000, objects="folders")
    assert account in caplog.text
    caplog.clear()
    whiten(small, odd, tmp_path / "white.keras", size=64, method="pca", dim=4, objects="folders")
    assert account in caplog.text
