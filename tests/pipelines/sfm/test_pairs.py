"""Retrieval pairs for COLMAP and hloc."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.folder import read_descriptors
from pipelines.files.name_join import JoinError
from pipelines.sfm.errors import ModelError, ReconstructionError
from pipelines.sfm.near_photos import Nearness
from pipelines.sfm.paired_photos import NO_PAIR, NOT_CHOSEN, NOT_LISTED, PairedPhotos, choose_pairs
from pipelines.sfm.pairs import pairs as write_pairs
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_models import write_model
from tests.helpers.small_network import draw_photo, save_network

pycolmap = pytest.importorskip("pycolmap")
h5py = pytest.importorskip("h5py")

NAMES = [f"scene{scene}/{view}.png" for scene in range(3) for view in range(4)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in NAMES:
        draw_photo(folder / name, int(name[5]), int(name[7]), height=120, width=168)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return str(save_network(tmp_path_factory.mktemp("network") / "small.keras", channels=16))


def test_colmap_matches_the_pairs_and_hloc_finds_the_descriptors(photos, network, tmp_path):
    path = write_pairs(network, photos, tmp_path / "pairs.txt", neighbours=3, size=168)
    pairs = [line.split(" ") for line in path.read_text().splitlines()]
    assert {name for pair in pairs for name in pair} == set(NAMES)
    assert sum(one[:6] == other[:6] for one, other in pairs) > len(pairs) * 0.8
    database = tmp_path / "database.db"
    pycolmap.extract_features(database, photos, NAMES)
    pycolmap.match_image_pairs(database, pairing_options=pycolmap.ImportedPairingOptions(match_list_path=path))
    with pycolmap.Database.open(database) as found:
        ids = {image.name: image.image_id for image in found.read_all_images()}
        assert found.num_matched_image_pairs() <= len(pairs)
        assert all(found.exists_matches(ids[one], ids[other]) for one, other in pairs)
        others = [pair for pair in ((a, b) for a in NAMES for b in NAMES if a < b) if list(pair) not in pairs]
        assert not any(found.exists_matches(ids[one], ids[other]) for one, other in others)
    with h5py.File(tmp_path / "pairs.h5") as file:
        rows = np.stack([file[name]["global_descriptor"][()] for name in NAMES])
        names = []
        file.visititems(lambda _, item: names.append(item.parent.name.strip("/")) if hasattr(item, "dtype") else None)
    assert sorted(names) == NAMES
    shards, order, _ = read_descriptors(tmp_path / "pairs-descriptors")
    described = dict(zip(order, np.concatenate(shards), strict=True))
    np.testing.assert_array_equal(rows, [described[name] for name in NAMES])


def test_other_neighbours_describe_nothing_again(photos, network, tmp_path):
    write_pairs(network, photos, tmp_path / "few.txt", neighbours=1, size=168)
    made = (tmp_path / "few-descriptors" / "manifest.json").stat().st_mtime_ns
    few = (tmp_path / "few.txt").read_text().splitlines()
    write_pairs(network, photos, tmp_path / "few.txt", neighbours=99, size=168, h5=tmp_path / "out" / "all.h5")
    assert (tmp_path / "few-descriptors" / "manifest.json").stat().st_mtime_ns == made
    assert len(few) < 12 * 11 // 2 == len((tmp_path / "few.txt").read_text().splitlines())
    assert (tmp_path / "out" / "all.h5").is_file()


@pytest.mark.parametrize("odd", ["a b.png", "tab\tname.png", "no\u00a0break.png", "#1.png"])
def test_a_name_that_a_list_cannot_contain_costs_only_itself(network, tmp_path, capsys, odd):
    for view, name in enumerate(["0.png", odd, "2.png", "3.png"]):
        draw_photo(tmp_path / "photos" / name, 0, view, height=120, width=168)
    path = write_pairs(network, tmp_path / "photos", tmp_path / "pairs.txt", neighbours=2, size=168)
    assert path.read_text() == "0.png 2.png\n0.png 3.png\n2.png 3.png\n"
    assert json.loads((tmp_path / "pairs-left_out.json").read_text()) == {odd: NOT_LISTED}
    assert "1 photos are left out of" in capsys.readouterr().out
    with h5py.File(tmp_path / "pairs.h5") as file:
        assert sorted(file) == sorted(["0.png", odd, "2.png", "3.png"])


def test_names_that_leave_no_pair_are_an_error_before_photos_are_described(network, tmp_path):
    draw_photo(tmp_path / "photos" / "a b.png", 0, 0)
    draw_photo(tmp_path / "photos" / "c.png", 0, 1)
    with pytest.raises(ReconstructionError, match=r"no two photos can be paired, .* rename photos such as a b\.png"):
        write_pairs(network, tmp_path / "photos", tmp_path / "pairs.txt", size=40)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_database_has_no_place_for_a_pair_that_is_not_matched(photos, tmp_path):
    """The reason why pairs are not written to one: without matches they count as matched, and COLMAP skips them."""
    pycolmap.extract_features(tmp_path / "0.db", photos, NAMES[:2])
    with pycolmap.Database.open(tmp_path / "0.db") as database:
        one, other = (image.image_id for image in database.read_all_images())
        database.write_matches(one, other, np.zeros((0, 2), np.uint32))
        database.write_two_view_geometry(one, other, pycolmap.TwoViewGeometry())
    pycolmap.match_exhaustive(tmp_path / "0.db")
    with pycolmap.Database.open(tmp_path / "0.db") as database:
        assert database.exists_matches(one, other)
        assert len(database.read_matches(one, other)) == 0


def nearest_by_hand(rows, names, queries, database, k):
    """For each query the k names of the database with the largest products, as lines of a list."""
    row_of = dict(zip(names, rows, strict=True))
    lines = []
    for query in queries:
        best = sorted(database, key=lambda name: -float(row_of[query] @ row_of[name]))[:k]
        lines += [f"{query} {name}" for name in best]
    return lines


def as_list(tmp_path, text):
    path = tmp_path / "queries.txt"
    path.write_bytes(text)
    return path


QUERIES = {
    "folder": lambda photos, _: photos / "scene1",
    "names": lambda _, tmp_path: as_list(tmp_path, "".join(f"{name}\n" for name in NAMES[4:8]).encode()),
    "names of Windows": lambda _, tmp_path: as_list(
        tmp_path, b"\xef\xbb\xbf" + "".join(f"C:\\p\\scene1\\{view}.png\r\n" for view in range(4)).encode()
    ),
    "hloc's list": lambda _, tmp_path: as_list(
        tmp_path, "".join(f"{name} SIMPLE_RADIAL 168 120 201.6 84 60 -0.01\n" for name in NAMES[4:8]).encode()
    ),
}


@pytest.mark.parametrize("kind", QUERIES)
def test_queries_are_paired_with_the_database_only(photos, network, tmp_path, kind):
    queries = QUERIES[kind](photos, tmp_path)
    path = write_pairs(network, photos, tmp_path / "pairs.txt", neighbours=3, size=168, queries=queries)
    shards, names, _ = read_descriptors(tmp_path / "pairs-descriptors")
    truth = nearest_by_hand(np.concatenate(shards), names, NAMES[4:8], NAMES[:4] + NAMES[8:], 3)
    assert path.read_text().splitlines() == truth
    missing = {name for name in NAMES if not any(name in line for line in truth)}
    left_out = json.loads((tmp_path / "pairs-left_out.json").read_text())
    assert left_out == dict.fromkeys(sorted(missing), NO_PAIR)


def test_queries_outside_the_photos(photos, network, tmp_path, capsys, monkeypatch):
    for view, name in enumerate(["q0.png", "q 1.png"]):
        draw_photo(tmp_path / "queries" / name, 1, view, height=120, width=168)
    options = {"neighbours": 2, "size": 168, "queries": tmp_path / "queries"}
    path = write_pairs(network, photos, tmp_path / "pairs.txt", **options)
    assert [line.split()[0] for line in path.read_text().splitlines()] == ["q0.png", "q0.png"]
    assert path.read_text().startswith("q0.png scene1/0.png\n")  # the same drawing
    assert "1 photos are left out of" in capsys.readouterr().out
    with h5py.File(tmp_path / "pairs.h5") as file:
        assert {"q0.png", "q 1.png", "scene0", "scene1", "scene2"} == set(file)
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        upload(tmp_path / "queries", "bucket/queries")
        faults.every, faults.outage = 5, (0.0, 60.0)
        apart = {**options, "queries": Path("faulty://bucket/queries")}
        there = write_pairs(network, "faulty://bucket/photos", tmp_path / "there.txt", **apart)
        assert there.read_text() == path.read_text()
        inside = {**options, "queries": Path("faulty://bucket/photos/scene1")}
        there = write_pairs(network, "faulty://bucket/photos", tmp_path / "there.txt", **inside)
        assert {line.split()[0] for line in there.read_text().splitlines()} == set(NAMES[4:8])
        with pytest.raises(ArgumentError, match="--queries must be another folder than PHOTOS and not contain it"):
            write_pairs(network, "faulty://bucket/photos", tmp_path / "there.txt", queries=Path("faulty://bucket"))
    draw_photo(tmp_path / "queries" / NAMES[0], 1, 1)
    with pytest.raises(ReconstructionError, match=r"the query .*scene0/0\.png and the photo .* have one name"):
        write_pairs(network, photos, tmp_path / "pairs.txt", **options)
    with pytest.raises(ArgumentError, match="--near needs --queries inside PHOTOS"):
        write_pairs(network, photos, tmp_path / "pairs.txt", **options, near="50m")


def test_only_photos_of_a_model_are_paired(photos, network, tmp_path):
    model = write_model(tmp_path / "models/0", ["scene0/0.png", "C:\\p\\scene0\\1.png", "scene2/2.png", "gone.png"])
    write_model(tmp_path / "models/1", ["scene2/2.png", "scene2/3.png"])
    path = write_pairs(network, photos, tmp_path / "pairs.txt", neighbours=9, size=168, only_model=model)
    registered = ["scene0/0.png", "scene0/1.png", "scene2/2.png"]
    assert path.read_text().splitlines() == [f"{one} {other}" for one, other in combinations(registered, 2)]
    left_out = json.loads((tmp_path / "pairs-left_out.json").read_text())
    assert left_out == {name: NOT_CHOSEN for name in NAMES if name not in registered}
    options = {"queries": photos / "scene2", "only_model": tmp_path / "models", "neighbours": 9, "size": 168}
    path = write_pairs(network, photos, tmp_path / "pairs.txt", **options)
    assert sorted(path.read_text().splitlines()) == [
        f"scene2/{view}.png scene0/{other}.png" for view in range(4) for other in range(2)
    ]


def test_queries_and_models_that_leave_no_pair_are_named(photos, network, tmp_path):
    def fails(error, message, **options):
        with pytest.raises(error, match=message):
            write_pairs(network, photos, tmp_path / "pairs.txt", size=168, **options)
        assert not (tmp_path / "pairs.txt").exists()

    fails(ArgumentError, "--queries .*nothing does not exist", queries=tmp_path / "nothing")
    fails(ArgumentError, "--queries must be another folder than PHOTOS", queries=photos)
    fails(ArgumentError, "--queries must be another folder than PHOTOS", queries=photos.parent)
    fails(JoinError, r"names no photo: it must have", queries=as_list(tmp_path, b"\n \n"))
    fails(JoinError, r"none of its 1 rows names one of the 12 photos", queries=as_list(tmp_path, b"x.png\n"))
    everything = as_list(tmp_path, "\n".join(NAMES).encode())
    fails(ReconstructionError, "there is no photo beside the queries to pair", queries=everything)
    fails(ModelError, "contains no COLMAP model", only_model=photos)
    model = write_model(tmp_path / "model", ["scene1/0.png", "scene1/1.png"])
    fails(ReconstructionError, "there is no photo beside .*--only-model", queries=photos / "scene1", only_model=model)


def test_near_queries_by_hand():
    rows = np.eye(5, dtype=np.float32)[[0, 0, 0, 1, 2]] * 0.8 + 0.2
    names = ["q", "far", "near", "odd", "nowhere"]
    nearness = Nearness(names, np.array([[0, 0], [900, 0], [3, 4], [5.1, 0], [np.nan, np.nan]]), 5.0)
    paired = PairedPhotos(["far", "near", "odd", "nowhere"], ["q"])
    assert choose_pairs(paired, names, rows, 3) == [("q", "far"), ("q", "near"), ("q", "odd")]
    assert choose_pairs(paired, names, rows, 3, nearness) == [("q", "near"), ("q", "nowhere")]
    assert choose_pairs(PairedPhotos(names[1:], ["gone"]), names, rows, 3) == []


def test_options_out_of_range_are_named(network, photos, tmp_path):
    with pytest.raises(ValueError, match="--neighbours must be at least 1, got 0"):
        write_pairs(network, photos, tmp_path / "pairs.txt", neighbours=0)
    with pytest.raises(ValueError, match="must be different files"):
        write_pairs(network, photos, tmp_path / "pairs.h5")
