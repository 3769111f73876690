"""A calibration that is made or replaced while its index is searched."""

import logging

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError

from export.index_contract.calibration import Calibration, Curve, network_of, write_calibration
from export.index_contract.errors import CalibrationError
from export.indexes.calibrated import LiveCalibration
from export.indexes.index import index
from export.indexes.open_index import open_index
from keras_retrieval.errors import ArgumentError
from tests.helpers.deadlines import wait_until
from tests.helpers.small_index import descriptors, indexed, random_rows

ROWS = random_rows(30)


def calibrate(folder, intercept, limit=0.99, **network):
    opened = open_index(folder)
    stored = network_of(opened.facts, 8) | network
    write_calibration(folder / "calibration.json", Calibration({"global": Curve(intercept, (0.0, 0.0))}, limit, stored))


def probability(live):
    answers = live.answers()
    return None if answers is None else round(float(answers.judge(evidence(answers))[0]), 3)


def evidence(answers):
    (hits,) = answers._index.search(ROWS[:1], 3)
    return answers.evidence(ROWS[0], hits)


@pytest.fixture
def folder(tmp_path):
    indexed(tmp_path, ROWS)
    return tmp_path / "index"


def test_a_calibration_is_made_and_replaced(folder, caplog):
    live = LiveCalibration(open_index(folder), folder, None)
    assert live.answers() is None
    calibrate(folder, 0.0)
    assert probability(live) == 0.5
    first = live.answers()
    assert live.answers() is first
    calibrate(folder, 1.0)
    assert probability(live) == round(1 / (1 + np.exp(-1.0)), 3)
    assert first.calibration.curves["global"].intercept == 0.0  # a search that has begun keeps what it began with
    with caplog.at_level(logging.WARNING, "keras_retrieval"):
        for text in ("{", ""):
            (folder / "calibration.json").write_text(text)
            assert probability(live) == 0.731
    assert len(caplog.records) == 2
    calibrate(folder, 2.0, size=1)  # of descriptors made with another size
    assert probability(live) == 0.731
    (folder / "calibration.json").unlink()
    assert probability(live) == 0.731


def test_a_promise_is_kept_or_refused(folder):
    with pytest.raises(CalibrationError, match="is not calibrated"):
        LiveCalibration(open_index(folder), folder, None, 0.9)
    calibrate(folder, 0.0)
    live = LiveCalibration(open_index(folder), folder, None, 0.9)
    calibrate(folder, 3.0, limit=0.8)  # which cannot promise 0.9
    assert probability(live) == 0.5
    # The index becomes one of other descriptors, which the calibration does not fit.
    index(descriptors(folder.parent / "other", random_rows(30, 12)), folder, replace=True)
    wait_until(lambda: live._index.facts["dimensions"] == 12, "the new index is read")
    with pytest.raises(CalibrationError, match=r"no calibration fits the index at .* now: calibrate it again"):
        live.answers()


def test_a_calibration_is_taken_over_once_the_index_can_be_read(folder, monkeypatch):
    live = LiveCalibration(open_index(folder), folder, None)
    calibrate(folder, 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(type(live._index), "vectors", raising(FolderError("half there")))
        assert live.answers() is None
    assert probability(live) == 0.5


def test_photos_that_were_deleted_since_the_search_cost_themselves(folder):
    calibrate(folder, 0.0)
    opened = open_index(folder)
    answers = LiveCalibration(opened, folder, None).answers()
    (hits,) = opened.search(ROWS[:1], 4)
    whole = answers.evidence(ROWS[0], hits)
    opened.delete([hits.names[1], hits.names[3]])
    found = answers.evidence(ROWS[0], hits)
    np.testing.assert_allclose(found.similarities, [whole.similarities[0], -1, whole.similarities[2], -1], atol=1e-6)
    assert found.nearness[[1, 3]].tolist() == [-1, -1] < found.nearness[[0, 2]].tolist()
    assert answers.judge(found).tolist() == [0.5] * 4
    opened.delete(hits.names)
    assert answers.evidence(ROWS[0], hits).similarities.tolist() == [-1] * 4
    with pytest.raises(ArgumentError, match="dimensions"):
        answers.evidence(ROWS[0][:3], opened.search(ROWS[:1], 2)[0])


def raising(error):
    def fail(*_, **__):
        raise error

    return fail
