"""Descriptors of a reconstruction."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.sfm.descriptors import compute_descriptors
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_network import draw_photo, save_network

pytest.importorskip("pycolmap")


def test_photos_are_described_once(tmp_path, monkeypatch):
    network = str(save_network(tmp_path / "small.keras"))
    for view in range(5):
        draw_photo(tmp_path / "photos" / f"{view}.png", 0, view)
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG")
    names = ["3.png", "broken.png", "0.png"]
    rows = compute_descriptors(tmp_path / "photos", names, tmp_path / "work", network, 40)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    (folder,) = (tmp_path / "work").iterdir()
    made = {path: path.stat().st_mtime_ns for path in folder.glob("0*")}
    more = compute_descriptors(
        tmp_path / "photos", ["0.png", "1.png", "2.png", "3.png"], tmp_path / "work", network, 40
    )
    np.testing.assert_array_equal(more[[3, 0]], rows[[0, 2]])
    np.testing.assert_allclose(np.linalg.norm(more, axis=1), 1, rtol=1e-5)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert compute_descriptors(tmp_path / "photos", names, tmp_path / "work", network, 30).shape == rows.shape
    assert len(list((tmp_path / "work").iterdir())) == 2
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path / "photos", "bucket")
        faults.every, faults.outage = 5, (0.0, 60.0)
        there = compute_descriptors(Path("faulty://bucket"), names, tmp_path / "other", network, 40)
    np.testing.assert_array_equal(there, rows)
