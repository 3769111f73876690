"""Candidate pairs restricted by distance, against plain loops; the options of `pairs` and `reconstruct`."""

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.gps.distance import metres
from pipelines.photos.positions import PositionError
from pipelines.sfm import near_photos
from pipelines.sfm.candidate_pairs import nearest_pairs
from pipelines.sfm.near_photos import Nearness, nearest_of_near
from pipelines.sfm.options import ReconstructOptions
from pipelines.sfm.pairs import pairs as write_pairs
from tests.helpers.gps_photos import exif, gps, photo
from tests.helpers.small_network import save_network


def unit_rows(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype("float32")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def spread(count, seed, without=0.2):
    rng = np.random.default_rng(seed)
    spots = rng.uniform(0, 300, (count, 2))
    spots[rng.random(count) < without] = np.nan
    return spots


def may_be_paired(one, other, radius):
    return bool(np.isnan(one).any() or np.isnan(other).any() or np.linalg.norm(one - other) <= radius)


def naive(rows, spots, k, radius):
    found = []
    for row in range(len(rows)):
        others = [
            other for other in range(len(rows)) if other != row and may_be_paired(spots[row], spots[other], radius)
        ]
        found.append(sorted(others, key=lambda other: (-float(rows[row] @ rows[other]), other))[:k])
    return found


@pytest.mark.parametrize("block", [7, 256])
@pytest.mark.parametrize(("without", "radius"), [(0.0, 50.0), (0.2, 50.0), (1.0, 50.0), (0.2, 1.0), (0.2, 1e9)])
def test_the_nearest_of_near_photos_are_those_of_a_loop(block, without, radius, monkeypatch):
    monkeypatch.setattr(near_photos, "_BLOCK", block)
    rows, spots = unit_rows(40, 1), spread(40, 2, without)
    found = nearest_of_near(rows, 6, Nearness([str(row) for row in range(40)], spots, radius))
    assert [[other for other in others if other >= 0] for others in found.tolist()] == naive(rows, spots, 6, radius)


def test_no_pair_is_far_apart_and_mutual_neighbours_come_first():
    names = [f"{row:02}" for row in range(40)]
    rows, spots = unit_rows(40, 3), spread(40, 4)
    rows[5] = np.nan
    near = Nearness(names, spots, 60.0)
    pairs = nearest_pairs(names, rows, 3, near)
    usable = [row for row in range(40) if row != 5]
    wider = dict(zip(usable, ([usable[other] for other in others] for others in
                              naive(rows[usable], spots[usable], 6, 60.0)), strict=True))  # fmt: skip
    expected = set()
    for row, others in wider.items():
        first = sorted(others, key=lambda other: row not in wider[other])[:3]
        expected |= {tuple(sorted((names[row], names[other]))) for other in first}
    assert pairs == sorted(expected)
    assert near.keep(pairs) == pairs
    assert all(may_be_paired(spots[int(one)], spots[int(other)], 60.0) for one, other in pairs)
    assert nearest_pairs(names, rows, 3, Nearness(names, spots, 1e9)) == nearest_pairs(names, rows, 3)


def test_pairs_beyond_the_distance_are_removed_and_those_without_position_kept():
    near = Nearness(["a", "b", "c"], np.array([[0.0, 0.0], [3.0, 4.0], [np.nan, np.nan]]), 5.0)
    assert near.keep([("a", "b"), ("a", "c"), ("b", "c")]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert Nearness(near.names, near.spots, 4.9).keep([("a", "b"), ("b", "c")]) == [("b", "c")]
    assert near.of(["c", "a"]).spots[1].tolist() == [0, 0]
    assert near.keep([]) == []


@pytest.mark.parametrize(
    ("text", "expected"), [("50m", 50), ("50 M", 50), ("1.5km", 1500), (".2 km", 200), ("5e3m", 5000)]
)
def test_distances_have_a_unit(text, expected):
    assert metres(text, "--near") == expected


@pytest.mark.parametrize("text", ["50", "", "m", "-5m", "0m", "5 miles", "nanm", "1,5km", "1e999m", "5mm"])
def test_other_distances_are_refused(text, tmp_path):
    with pytest.raises(ArgumentError, match="--near must be a distance above 0 in m or km, such as 50m"):
        metres(text, "--near")
    with pytest.raises(ArgumentError, match="--near must be a distance"):
        ReconstructOptions(tmp_path, tmp_path / "work", near=text)


def test_positions_need_a_distance(tmp_path):
    with pytest.raises(ArgumentError, match="--positions needs --near"):
        ReconstructOptions(tmp_path, tmp_path / "work", positions="exif")


def test_pairs_uses_positions_in_photos_or_a_table(tmp_path, capsys):
    pytest.importorskip("h5py")
    network = str(save_network(tmp_path / "small.keras", channels=16))
    photos = tmp_path / "photos"
    photos.mkdir()
    # 0 and 1 are 22 m apart on a meridian, 2 is 1.1 km away, and 3 has no position.
    for row, latitude in enumerate((500000, 500002, 500100)):
        data = exif(gps(((latitude, 10**4),), ((14, 1),)))
        (photos / f"{row}.jpg").write_bytes(photo(data, size=(160, 120)))
    (photos / "3.jpg").write_bytes(photo(size=(160, 120)))
    output = tmp_path / "pairs.txt"

    def found(**options):
        write_pairs(network, photos, output, neighbours=3, size=160, **options)
        return output.read_text().splitlines()

    assert len(found()) == 6
    assert found(near="50m") == ["0.jpg 1.jpg", "0.jpg 3.jpg", "1.jpg 3.jpg", "2.jpg 3.jpg"]
    out = capsys.readouterr().out
    assert "3 of 4 photos have a position in their metadata; without: 1 x no EXIF" in out
    assert "1 photos without a position are paired by descriptors alone" in out
    assert len(found(near="1.2km")) == 6
    assert found(near="20m") == ["0.jpg 3.jpg", "1.jpg 3.jpg", "2.jpg 3.jpg"]
    table = tmp_path / "table.csv"
    table.write_text("photo,latitude,longitude\n0.jpg,50,14\n1.jpg,50.5,14\n2.jpg,50,14\n3.jpg,51,14\n")
    assert found(near="50m", positions=str(table)) == ["0.jpg 2.jpg"]
    assert "2 photos are in no pair" in capsys.readouterr().out
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.jpg").write_bytes(photo())
    with pytest.raises(PositionError, match="none of 1 photos has a position"):
        write_pairs(network, tmp_path / "none", tmp_path / "none.txt", near="50m")
    assert not (tmp_path / "none-descriptors").exists()
