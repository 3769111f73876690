"""Retrieval pairs for COLMAP and hloc."""

import numpy as np
import pytest

from pipelines.descriptors.folder import read_descriptors
from pipelines.sfm.pairs import pairs as write_pairs
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


def test_names_that_a_list_cannot_hold_are_named(network, tmp_path):
    draw_photo(tmp_path / "photos" / "a b.png", 0, 0)
    draw_photo(tmp_path / "photos" / "c.png", 0, 1)
    with pytest.raises(ValueError, match=r"'a b\.png': a list of pairs cannot contain"):
        write_pairs(network, tmp_path / "photos", tmp_path / "pairs.txt", size=40)
    assert not (tmp_path / "pairs.txt").exists()
    assert not (tmp_path / "pairs-descriptors").exists()


def test_options_out_of_range_are_named(network, photos, tmp_path):
    with pytest.raises(ValueError, match="--neighbours must be at least 1, got 0"):
        write_pairs(network, photos, tmp_path / "pairs.txt", neighbours=0)
    with pytest.raises(ValueError, match="must be different files"):
        write_pairs(network, photos, tmp_path / "pairs.h5")
