"""Calibrations: learned probabilities of photos of synthetic objects, and what is refused."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.files.remote import RemoteFolder
from keras_retrieval.pipelines.local_features.features import LocalFeatures
from keras_retrieval.pipelines.training_tuples.data import Tuples, TuplesError
from keras_retrieval.pipelines.training_tuples.file import read_tuples, write_tuples

from export.calibration.calibrate import calibrate
from export.calibration.fit import fit_curves, wilson_low
from export.calibration.pairs import Pairs, choose_queries, collect, label
from export.folder_index.folder_index import FolderIndex
from export.index_contract.answers import open_answers
from export.index_contract.calibration import (
    FILE,
    Calibration,
    Counts,
    Curve,
    probability_text,
    read_calibration,
    write_calibration,
)
from export.index_contract.contract import Hits
from export.index_contract.errors import CalibrationError
from export.indexes.index import index
from export.indexes.ranking import search_queries
from keras_retrieval.errors import ArgumentError
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_crops import crop_descriptors
from tests.helpers.small_index import indexed, unit

pytest.importorskip("sklearn", reason='pip install "keras-retrieval[calibrate]"')

OBJECTS, VIEWS, OTHERS, DIMENSIONS = 12, 10, 60, 32


def views(seed, count=OBJECTS, spread=0.1):
    """Descriptors of views of some objects."""
    chance = np.random.default_rng(seed)
    centres = unit(chance.normal(size=(count, DIMENSIONS)))
    return unit(np.repeat(centres, VIEWS, axis=0) + spread * chance.normal(size=(count * VIEWS, DIMENSIONS)))


def tuples_file(path, names, cluster, links=()):
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b and cluster[a] == cluster[b]]
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    links = np.array(links, np.int64).reshape(-1, 2)
    write_tuples(path, Tuples(names, np.array(cluster), rows[:, 0], rows[:, 1], links), {})
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index of views of 12 objects and of 60 other photos, calibrated on the objects."""
    folder = tmp_path_factory.mktemp("made")
    rows = np.concatenate([views(0), unit(np.random.default_rng(9).normal(size=(OTHERS, DIMENSIONS)))])
    names = [f"{row // VIEWS}/{row}.jpg" for row in range(OBJECTS * VIEWS)] + [f"x/{row}.jpg" for row in range(OTHERS)]
    indexed(folder, rows, names)
    count = OBJECTS * VIEWS
    tuples_file(folder / "tuples.npz", names[:count], [row // VIEWS for row in range(count)])
    calibrate(str(folder / "index"), folder / "tuples.npz")
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def answers_of(folder, **options):
    index = FolderIndex(folder / "index")
    return index, open_answers(index, str(folder / "index"), folder / "index" / FILE, **options)


def found(folder, row, own=None, k=20, **options):
    index, answers = answers_of(folder, **options)
    results = search_queries(index.search, {folder: row}, {folder: own}, k, answers=answers, **options)
    return results[0]


def test_matches_are_probable_and_others_are_not(made):
    index, _ = answers_of(made)
    own = "3/35.jpg"
    result = found(made, index.vectors([own])[0], own)
    same = np.array([name.startswith("3/") for name in result.names])
    assert same.sum() == VIEWS - 1
    assert result.probabilities[same].min() > 0.9
    assert result.probabilities[~same].max() < 0.1


def test_a_query_without_a_match_has_no_answer_and_others_have_theirs(made):
    strangers = views(77, count=8)
    for row in strangers[::VIEWS]:
        assert found(made, row, min_probability=0.9).names == []
    known = views(0)[::VIEWS]
    for number, row in enumerate(known):
        names = found(made, row, f"{number}/{number * VIEWS}.jpg", min_probability=0.9).names
        assert names
        assert {name.split("/")[0] for name in names} == {str(number)}


def test_the_probability_is_the_stored_logistic_function(made):
    calibration = read_calibration(made / "index" / FILE)
    document = json.loads((made / "index" / FILE).read_text())
    curve = document["curves"]["global"]
    (found,) = calibration.probabilities(np.array([0.6]), np.array([0.1]))
    logit = curve["intercept"] + 0.6 * curve["weights"]["similarity"] + 0.1 * curve["weights"]["nearness"]
    assert found == pytest.approx(min(document["limit"], 1 / (1 + np.exp(-logit))))
    assert min(curve["weights"].values()) >= 0
    assert document["limit"] == pytest.approx((OBJECTS * VIEWS + 1) / (OBJECTS * VIEWS + 2))
    assert document["held_out"]["global"]["auc"] > 0.97


def test_verified_pairs_have_their_own_curve_and_unverified_ones_the_other():
    curves = {"global": Curve(-1.0, (1.0, 0.0)), "verified": Curve(-2.0, (0.0, 0.0, 1.0, 0.5))}
    calibration = Calibration(curves, 0.9, {})
    found = calibration.probabilities(np.zeros(4), np.zeros(4), [None, Counts(0, 0), Counts(0, 15), Counts(1000, 1000)])
    np.testing.assert_allclose(found, [1 / (1 + np.e), 1 / (1 + np.exp(2)), 1 / (1 + np.exp(2) / 4), 0.9])


def test_the_answer_does_not_depend_on_the_order_or_number_of_hits(made):
    index, answers = answers_of(made)
    (row,) = index.vectors(["5/50.jpg"])
    (hits,) = index.search(row[None], 12)
    every = answers.probabilities(row, hits, own="5/50.jpg")
    some = hits.pick([7, 2])
    other = Hits(some.names, np.float32([0.2, 0.1]))  # scores of another ranking
    np.testing.assert_allclose(answers.probabilities(row, other, own="5/50.jpg"), every[[7, 2]], rtol=1e-5)


def test_it_stays_when_the_index_changes_and_is_refused_by_another_network(copy):
    place = copy / "index"
    index = FolderIndex(place)
    index.add(["new.jpg"], views(5)[:1])
    index.delete(["0/0.jpg"])
    index.compact()
    assert open_answers(index, str(place), place / FILE, 0.9) is not None
    document = json.loads((place / FILE).read_text())
    document["network"]["model"] = {"sha256": "0" * 64}
    (place / FILE).write_text(json.dumps(document))
    with pytest.raises(CalibrationError, match=r"calibration.json was learned for descriptors of another network"):
        open_answers(index, str(place), place / FILE, 0.9)
    assert open_answers(index, str(place), place / FILE) is None


def test_an_index_without_one_names_the_step(copy):
    place = copy / "index"
    (place / FILE).unlink()
    index = FolderIndex(place)
    assert open_answers(index, str(place), place / FILE) is None
    with pytest.raises(CalibrationError, match=f"keras-retrieval calibrate {place} TUPLES"):
        open_answers(index, str(place), place / FILE, 0.5)
    with pytest.raises(CalibrationError, match=r"--output FILE.*--calibration"):
        open_answers(index, "milvus://a:1/b", None, 0.5)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"\xff" * 5000, b'{"kind": "calibration"}', b'{"kind": "other", "version": 1}']
    + [json.dumps({"kind": "calibration", "version": 1, "curves": curves, "limit": limit, "network": {}}).encode()
       for curves, limit in (
           ({}, 0.9),
           ({"global": {"intercept": 1e999, "weights": {"similarity": 1, "nearness": 1}}}, 0.9),
           ({"global": {"intercept": 0, "weights": {"similarity": 1, "nearness": 1}}}, 1.5),
           ({"global": {"intercept": 0, "weights": {"similarity": 1}}}, 0.9),
           ({"global": {"intercept": "a", "weights": []}}, 0.9),
           ({"global": {"intercept": 10**400, "weights": {"similarity": 1, "nearness": 1}}}, 0.9),
           ({"global": {"intercept": 0, "weights": {"similarity": -1, "nearness": 1}}}, 0.9),
       )]
    + [json.dumps({"kind": "calibration", "version": 1, "curves": {"global": {"intercept": 0, "weights": {
            "similarity": 1, "nearness": 1}}}, "limit": 0.9, "network": {}, "queries": 9, **wrong}).encode()
       for wrong in ({"queries": "many"}, {"queries": [1]}, {"photos": "x"}, {"photos": -1}, {"photos": float("nan")},
                     {"photos": 10**400}, {"version": 0}, {"version": True})],
)  # fmt: skip
def test_a_damaged_file_is_named(made, tmp_path, content):
    path = tmp_path / FILE
    path.write_bytes(content)
    index = FolderIndex(made / "index")
    with pytest.raises(CalibrationError, match=f"{path} is (damaged|not a calibration)") as error:
        open_answers(index, "index", path, 0.5)
    assert "remove" not in str(error.value), "the index folder stays"
    assert len(str(error.value)) < len(str(path)) + 300, "the content of the file is not printed"
    assert open_answers(index, "index", path) is None


def test_a_promise_that_the_number_of_queries_does_not_support_is_refused(made):
    with pytest.raises(CalibrationError, match=r"120 queries, which support at most 0\.991"):
        answers_of(made, min_probability=0.999)


def test_few_photos_and_foreign_photos_are_refused(made, tmp_path):
    index, few = str(made / "index"), [f"{number}/{number * VIEWS + view}.jpg" for number in (0, 1) for view in (0, 1)]
    with pytest.raises(
        CalibrationError, match=r"2 objects, 4 queries, 4 pairs of the same object.*needs 3 objects, 20"
    ):
        calibrate(index, tuples_file(tmp_path / "few.npz", few, [0, 0, 1, 1]))
    with pytest.raises(CalibrationError, match=r"such as a.jpg, is in the index"):
        calibrate(index, tuples_file(tmp_path / "foreign.npz", ["a.jpg", "b.jpg", "c.jpg"], [0, 0, 1]))
    (tmp_path / "no.npz").write_bytes(b"no tuples")
    with pytest.raises(TuplesError, match=r"no\.npz is damaged or is not an \.npz file of tuples: `keras"):
        calibrate(index, tmp_path / "no.npz")
    with pytest.raises(ArgumentError, match=r"--output is the same file as TUPLES, .*few\.npz, which would be lost"):
        calibrate(index, tmp_path / "few.npz", output=tmp_path / "few.npz")
    with pytest.raises(ArgumentError, match="--output"):
        calibrate("milvus://localhost:1/c", tmp_path / "few.npz")


def test_a_calibration_of_an_index_at_an_address_is_written_to_it(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    plain = shutil.copytree(made / "index", tmp_path / "plain")
    (plain / FILE).unlink()
    with faulty_storage(monkeypatch) as faults:
        upload(plain, "bucket/index")
        faults.every, faults.outage = 7, (0.0, 60.0)
        calibrate("faulty://bucket/index", made / "tuples.npz")
        assert capsys.readouterr().out.endswith(f"faulty://bucket/index/{FILE}\n")
        assert RemoteFolder("faulty://bucket/index").read(FILE) == (made / "index" / FILE).read_bytes()
        calibrate("faulty://bucket/index", made / "tuples.npz", output=tmp_path / "new" / "calibration.json")
    assert (tmp_path / "new" / "calibration.json").read_bytes() == (made / "index" / FILE).read_bytes()
    with pytest.raises(ArgumentError, match="folders are not written to https:// addresses"):
        calibrate("https://host/index", made / "tuples.npz")


def test_pairs_of_the_same_object_must_be_of_several_objects(tmp_path):
    chance = np.random.default_rng(3)
    rows = np.concatenate([views(0, count=1, spread=0.05), unit(chance.normal(size=(200, DIMENSIONS)))])
    names = [f"{row}.jpg" for row in range(len(rows))]
    indexed(tmp_path, rows, names)
    path = tuples_file(tmp_path / "t.npz", names[:22], [0] * 10 + [1] * 6 + [2] * 6)
    with pytest.raises(CalibrationError, match=r"1 objects, 22 queries.*needs 3 objects"):
        calibrate(str(tmp_path / "index"), path, candidates=5)
    with pytest.raises(ArgumentError, match="--seed must be at most 4294967295"):
        calibrate(str(tmp_path / "index"), path, seed=2**32)


def test_inliers_of_too_few_objects_give_no_curve_of_their_own():
    chance, count = np.random.default_rng(0), 240
    place, same = np.repeat(np.arange(6), 40), np.tile([True, False], 120)
    both = [same + chance.normal(size=count) for _ in range(2)]
    features = np.stack([*both, 3.0 * same, 4.0 * same], axis=1)
    features[place > 1, 2:] = np.nan
    pairs = Pairs(features, same, np.arange(count) // 4, place, np.arange(count), np.zeros(count, bool))
    assert set(fit_curves(pairs, 0.5)) == {"global"}


def test_labels_that_have_nothing_to_do_with_the_photos_give_no_sure_answer(made, tmp_path):
    count = OBJECTS * VIEWS
    names = [f"{row // VIEWS}/{row}.jpg" for row in range(count)]
    cluster = np.arange(count) // VIEWS
    cluster = np.concatenate([cluster[::2], cluster[1::2]])  # half of each object, and half of another one
    found = calibrate(str(made / "index"), tuples_file(tmp_path / "t.npz", names, cluster), output=tmp_path / "c")
    assert found.probabilities(np.array([0.95]), np.array([0.8])).max() < 0.9


def test_only_objects_that_were_set_aside_are_queries(made, tmp_path):
    tuples = read_tuples(made / "tuples.npz")
    options = {"output": tmp_path / FILE, "validation_only": True}
    with pytest.raises(CalibrationError, match=r"0 objects, 0 queries.*: set more objects aside with `tuples --valid"):
        calibrate(str(made / "index"), made / "tuples.npz", **options)
    write_tuples(tmp_path / "split.npz", replace(tuples, validation=tuples.cluster < 4), {})
    facts = calibrate(str(made / "index"), tmp_path / "split.npz", **options).facts
    assert (facts["objects"], facts["queries"], facts["validation_only"]) == (4, 4 * VIEWS, True)


def test_photos_of_linked_clusters_are_neither_matches_nor_others(made, tmp_path):
    index = FolderIndex(made / "index")
    names = [f"{number}/{number * VIEWS + view}.jpg" for number in range(4) for view in range(3)]
    labels = label(read_tuples(tuples_file(tmp_path / "t.npz", names, np.repeat(range(4), 3), [(0, 1)])), index)
    assert labels.place[0] == labels.place[3] != labels.place[6]
    chosen = choose_queries(labels, 6, 0)
    assert np.bincount(labels.place[chosen]).tolist() == [2, 2, 2], "as many of each place"


def test_of_an_index_of_crops_the_best_crop_counts(tmp_path):
    """Of every second photo of an object only a crop shows it; it is found by the other photos, which are whole."""
    chance, photos = np.random.default_rng(5), {}
    for number, row in enumerate(views(0)):
        other = unit(chance.normal(size=(1, DIMENSIONS)))
        rows = [row[None], other] if number % 2 else [other, row[None]]
        photos[f"{number // VIEWS}/{number}.jpg"] = np.concatenate(rows), np.float32([[0, 0, 90, 60], [5, 5, 50, 40]])
    index(crop_descriptors(tmp_path / "descriptors", photos), tmp_path / "index", exact=True)
    names = [name for number, name in enumerate(photos) if number % 2]
    path = tuples_file(tmp_path / "tuples.npz", names, [int(name.split("/")[0]) for name in names])
    calibrate(str(tmp_path / "index"), path, unlabelled="ignored")
    result = found(tmp_path, photos["3/35.jpg"][0][0], "3/35.jpg")
    same = np.array([name.startswith("3/") for name in result.names])
    assert same.sum() == VIEWS - 1
    assert result.probabilities[same].min() > 0.8
    assert result.probabilities[~same].max() < 0.2


def test_local_features_are_matched_by_the_matcher(made):
    pytest.importorskip("pycolmap", reason='pip install "keras-retrieval[sfm]"')
    features = LocalFeatures(np.ones((2, 2), np.float32), np.eye(2, 64, dtype=np.float32), 9, 9)
    source = SimpleNamespace(facts={}, read=lambda name: features)
    compared = []

    def matcher(query, other):
        compared.append((len(query), len(other)))
        return np.zeros(0, np.int64), np.zeros(0, np.int64)

    opened = FolderIndex(made / "index")
    labels = label(read_tuples(made / "tuples.npz"), opened)
    pairs = collect(opened, labels, np.array([5]), 6, source, matcher, unlabelled=True)
    assert pairs.features[:, 2:].tolist() == [[0.0, 0.0]] * 12
    assert set(compared) == {(2, 2)}
    with pytest.raises(ArgumentError, match=r"--matcher matches local features, which .*index does not have"):
        calibrate(str(made / "index"), made / "tuples.npz", matcher=str(made / "tuples.npz"))
    with pytest.raises(ArgumentError, match="--matcher is for the comparison of local features"):
        calibrate(str(made / "index"), made / "tuples.npz", matcher="lighterglue", verify=False)


def test_the_same_command_learns_the_same(made, copy):
    before = (copy / "index" / FILE).read_bytes()
    calibrate(str(copy / "index"), made / "tuples.npz")
    assert json.loads((copy / "index" / FILE).read_bytes()) == json.loads(before)


def test_a_place_that_cannot_be_written_is_found_before_the_work(made, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match=r"file, where a folder is needed"):
        calibrate(str(made / "index"), made / "tuples.npz", output=tmp_path / "file" / "c.json")
    with pytest.raises(
        FolderError, match=r"manifest\.json is part of .*index, which contains ScaNN index: name another"
    ):
        calibrate(str(made / "index"), made / "tuples.npz", output=made / "index" / "manifest.json")


def test_a_probability_is_never_rounded_up():
    assert [probability_text(one) for one in (0.0004, 0.5, 0.8999, 0.98999, 0.9903)] == [
        "0.0 %", "50 %", "89 %", "98 %", "99.0 %",
    ]  # fmt: skip


def test_wilsons_interval_is_that_of_published_tables():
    assert wilson_low(10, 10) == pytest.approx(0.7225, abs=1e-3)
    assert wilson_low(81, 263) == pytest.approx(0.2553, abs=1e-3)
    assert wilson_low(0, 0) == 0


def test_a_file_of_before_matches_counted_is_read(tmp_path):
    calibration = Calibration({"global": Curve(1, (2, 3)), "verified": Curve(1, (2, 3, 4, 0))}, 0.9, {})
    write_calibration(tmp_path / FILE, calibration)
    document = json.loads((tmp_path / FILE).read_text())
    del document["curves"]["verified"]["weights"]["matches"], document["matcher"]
    (tmp_path / FILE).write_text(json.dumps(document))
    assert read_calibration(tmp_path / FILE) == calibration


def test_what_is_written_is_read(tmp_path):
    calibration = Calibration({"global": Curve(1.5, (2.0, 3.0))}, 0.97, {"model": {"name": "a"}}, {"queries": 3})
    write_calibration(tmp_path / FILE, calibration)
    assert read_calibration(tmp_path / FILE) == calibration
