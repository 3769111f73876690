"""Verified searches: the photo of the query's object comes first, and the index keeps features in step with photos."""

import shutil

import numpy as np
import pytest
from keras_retrieval.pipelines.files.durable import FolderError
from keras_retrieval.pipelines.local_features.matchers import matcher_identity
from PIL import Image

from export.folder_index.folder_index import FolderIndex
from export.index_contract.calibration import FILE, Calibration, Curve, file_name, network_of, write_calibration
from export.index_contract.contract import Hits
from export.index_contract.errors import CalibrationError
from export.indexes.calibrated import open_calibration
from export.indexes.index import index
from export.indexes.local_store import LocalStore, add_local_features, has_local_features
from export.indexes.open_index import open_index
from export.indexes.search import search
from export.indexes.update import update
from export.indexes.verified_search import VerifiedSearch, local_features_if_any, open_local_features
from keras_retrieval.errors import ArgumentError
from pipelines.descriptors.extract import extract
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small_lighterglue import random_matcher
from tests.helpers.small_local_features import save_weights
from tests.helpers.small_network import save_network
from tests.helpers.small_xfeat import patterned_photo

pytest.importorskip("pycolmap", reason='pip install "keras-retrieval[sfm]"')


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two views of a pattern, the same upside down and noise; descriptors with local features, and an index."""
    folder = tmp_path_factory.mktemp("made")
    whole = patterned_photo(200, 260)
    noise = np.random.default_rng(0).integers(0, 256, (128, 160, 3)).astype(np.uint8)
    photos = {"view.png": whole[:128, :160], "other.png": whole[32:160, 32:192], "noise.png": noise}
    (folder / "photos").mkdir()
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / "photos" / name)
    Image.fromarray(noise[::-1]).save(folder / "photos" / "noise2.png")
    model, weights = save_network(folder / "small.keras"), save_weights(folder / "xfeat.npz")
    options = {"local": str(weights), "local_features": 400, "precision": "float32"}
    extract(str(model), folder / "photos", folder / "descriptors", **options)
    index(folder / "descriptors", str(folder / "index"))
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "copy")


def test_the_photo_of_the_object_comes_first_with_its_matches(made, capsys):
    page = made / "page.html"
    (result,) = search(str(made / "index"), [made / "photos" / "view.png"], k=2, verify=3, html=page)
    assert result.names[0] == "other.png"
    assert f"{result.scores[0]:.3f} · {result.matches[0].inliers} points" in page.read_text()
    match = result.matches[0]
    assert match.inliers >= 20
    shifts = match.query_points - match.points
    assert np.median(np.abs(shifts - np.float32([32, 32]))) < 1.5
    printed = capsys.readouterr().out
    assert f"{match.inliers} inliers" in printed
    left, top, right, bottom = match.box
    assert f"{round(left)},{round(top)},{round(right)},{round(bottom)}  other.png" in printed


def test_local_features_of_an_index_at_an_address_are_those_of_the_folder(made, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    here = open_local_features(str(made / "index"), None)
    with faulty_storage(monkeypatch) as faults:
        upload(made / "index", "bucket/index")
        faults.every, faults.outage = 7, (0.0, 60.0)
        there = local_features_if_any("faulty://bucket/index", None)
        assert there.facts == here.facts
        for name in ("view.png", "other.png", "noise.png"):
            np.testing.assert_array_equal(there.read(name).descriptors, here.read(name).descriptors)
        fetched = faults.count("fetch")
        assert len(open_local_features("faulty://bucket/index", None)) == len(here) == 4
        assert faults.count("fetch") == fetched  # the copy is there
        damaged = shutil.copytree(made / "index", tmp_path / "damaged")
        shard = next((damaged / "local" / "000001").glob("features-*.npy"))
        shard.write_bytes(shard.read_bytes()[:-4] + b"0000")
        upload(damaged, "bucket/damaged")
        with pytest.raises(FolderError, match=r"faulty://bucket/damaged/local is damaged: .*features-00000\.npy"):
            open_local_features("faulty://bucket/damaged", None)
        upload(made / "index" / "segment-000001", "bucket/plain/segment-000001")
        assert local_features_if_any("faulty://bucket/plain", None) is None


def test_only_features_inside_the_box_are_matched(made):
    box = "60,20,150,120"
    (result,) = search(str(made / "index"), [made / "photos" / "view.png"], k=3, verify=3, box=box)
    points = next(match for match in result.matches if match and match.inliers).query_points
    assert points.min(axis=0)[0] >= 60
    assert points.max(axis=0)[1] <= 120


def test_a_search_gives_probabilities_and_says_no_match(made, copy, capsys):
    place = copy / "index"
    with pytest.raises(CalibrationError, match="keras-retrieval calibrate"):
        search(str(place), [made / "photos" / "view.png"], verify=3, min_probability=0.5)
    index = open_index(place)
    curves = {"global": Curve(-5.0, (0.0, 0.0)), "verified": Curve(-6.0, (0.0, 0.0, 3.0, 0.0))}
    network = network_of(index.facts, index.facts["dimensions"])
    write_calibration(place / FILE, Calibration(curves, 0.98, network, {"queries": 48}))
    queries, page = [made / "photos" / "view.png", made / "photos" / "noise.png"], copy / "page.html"
    capsys.readouterr()
    found, none = search(str(place), queries, verify=3, min_probability=0.9, html=page)
    assert found.names == ["other.png"]
    assert len(found.matches) == len(found.probabilities) == 1
    assert none.names == []
    printed = capsys.readouterr().out
    assert f"98 %  {found.matches[0].inliers} inliers" in printed
    assert f"{queries[1]}\n  no match\n" in printed
    assert "query · no match" in page.read_text()
    assert "· 98 % ·" in page.read_text()
    foreign = {"sha256": "0" * 64, "size": 1024, "features": 400}
    write_calibration(place / FILE, Calibration(curves, 0.98, network, {"queries": 48}, foreign))
    with pytest.raises(CalibrationError, match="local features of another extractor"):
        search(str(place), queries, verify=3, min_probability=0.9)
    assert search(str(place), queries[:1], verify=3)[0].probabilities is None
    (plain,) = search(str(place), queries[:1])
    np.testing.assert_allclose(plain.probabilities, 1 / (1 + np.exp(5)), rtol=1e-6)
    with pytest.raises(CalibrationError, match=r"48 queries, which support at most 0\.98"):
        search(str(place), queries, min_probability=0.99)


def test_a_photo_that_is_not_verified_keeps_its_place_after_verified_ones(made):
    store = open_local_features(str(made / "index"), None)
    verified = VerifiedSearch(store, 3)
    hits = Hits(["noise.png", "unknown.png", "other.png", "noise2.png"], np.float32([0.9, 0.8, 0.7, 0.6]))
    ordered, matches = verified.verify(verified.describe(made / "photos" / "view.png"), hits)
    assert ordered.names == ["other.png", "noise.png", "unknown.png", "noise2.png"]
    assert [match is None for match in matches] == [False, False, True, True]
    np.testing.assert_allclose(ordered.scores, [0.7, 0.9, 0.8, 0.6])


def test_features_of_replaced_and_deleted_photos_are_not_used(copy):
    place = copy / "index"
    store = LocalStore(place)
    assert len(store) == 4
    extract(str(copy / "small.keras"), copy / "photos", copy / "plain", precision="float32")
    update(str(place), delete=["noise.png"])
    assert store.read("noise.png") is None
    assert len(store.read("other.png")) > 20
    update(str(place), add=copy / "plain")
    assert len(store) == 0
    update(str(place), add=copy / "descriptors")
    assert len(store) == 4
    assert len(FolderIndex(place)) == 4


def test_local_features_survive_compaction_and_replacement(copy):
    place = copy / "index"
    update(str(place), add=copy / "descriptors")
    update(str(place), delete=["noise.png"], compact=True)
    assert [path.name for path in sorted((place / "local").iterdir())] == ["000002", "contents.json"]
    assert LocalStore(place).read("noise.png") is None
    assert len(LocalStore(place)) == 3
    index(copy / "descriptors", str(place), replace=True)
    assert len(LocalStore(place)) == 4
    assert [path.name for path in sorted((place / "local").iterdir())] == ["000003", "contents.json"]
    shutil.rmtree(copy / "descriptors" / "local")
    index(copy / "descriptors", str(place), replace=True)
    assert not has_local_features(place)


@pytest.mark.parametrize(
    "content",
    ["", "{", "null", "[1]", "{}", '[{"added": 5}]', '[{"added": "../local"}]', '[{"added": ["000001"]}]',
     '[{"removed": "view.png"}]', '[{"removed": [1]}]', '[{"removed": null}]'],
)  # fmt: skip
def test_a_damaged_list_of_the_features_is_named(tmp_path, content):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "contents.json").write_text(content)
    with pytest.raises(FolderError, match=r"contents\.json is damaged: index again"):
        len(LocalStore(tmp_path))


def test_features_of_another_extractor_are_refused(copy):
    other = save_weights(copy / "other.npz")
    np.savez(other, **dict(np.load(other)), more=np.zeros(1))
    extract(
        str(copy / "small.keras"), copy / "photos", copy / "again", local=str(other), local_features=400,
        precision="float32",
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=r"made with extractor .*other\.npz \(SHA-256 \w{12}\), those of the index"):
        add_local_features(copy / "index", copy / "again" / "local", ["view.png"])
    with pytest.raises(ArgumentError, match="the local features were made with extractor"):
        update(str(copy / "index"), add=copy / "again", delete=["noise.png"])
    assert "noise.png" in FolderIndex(copy / "index").names, "it is refused before the first change"


def test_without_local_features_the_error_says_what_to_do(made, copy):
    shutil.rmtree(copy / "index" / "local")
    with pytest.raises(FolderError, match="has no local features, by which --verify compares photos"):
        search(str(copy / "index"), [made / "photos" / "view.png"], verify=3)
    (result,) = search(str(copy / "index"), [made / "photos" / "view.png"], k=1, verify=3, local=copy / "descriptors")
    assert result.names == ["other.png"]
    with pytest.raises(ArgumentError, match="--local is for --verify"):
        search(str(copy / "index"), [made / "photos" / "view.png"], local=copy / "descriptors")


def test_a_matcher_of_the_user_matches_and_has_a_calibration_of_its_own(made, copy, tmp_path):
    np.savez(tmp_path / "glue.npz", **random_matcher())
    photo, glue, place = [made / "photos" / "view.png"], str(tmp_path / "glue.npz"), copy / "index"
    with pytest.raises(ArgumentError, match="--matcher is for --verify"):
        search(str(place), photo, matcher=glue)
    opened, facts = open_index(str(place)), open_local_features(place, None).facts
    network = network_of(opened.facts, opened.vectors([]).shape[1])
    curves, identity = {"global": Curve(0.0, (0.0, 0.0))}, matcher_identity(glue)

    def answers(matcher, least=0.5, file=None):
        found = open_calibration(opened, place, file, least, local=facts, matcher=matcher)
        return None if found is None else found.calibration.curves["verified"].intercept

    write_calibration(place / FILE, Calibration(curves | {"verified": Curve(2.0, (0.0,) * 4)}, 0.99, network))
    with pytest.raises(
        CalibrationError, match=r"not calibrated for --matcher .*glue\.npz: .* TUPLES --matcher .*glue\.npz"
    ):
        answers(glue)
    assert answers(glue, 0.0) is None
    own = Calibration(curves | {"verified": Curve(1.0, (0.0,) * 4)}, 0.99, network, matcher=identity)
    write_calibration(place / file_name(identity), own)
    assert [answers("mutual"), answers(glue)] == [2.0, 1.0]
    with pytest.raises(
        CalibrationError, match=r"calibration\.json was learned .* matched by mutual, and not by lighter"
    ):
        answers(glue, file=place / FILE)
    (result,) = search(str(place), photo, k=3, verify=3, matcher=glue, min_probability=0.5)
    assert all(match is not None and match.matches < 100 for match in result.matches)  # random weights match few
    assert result.probabilities == pytest.approx(1 / (1 + np.exp(-1)))
    np.savez(tmp_path / "glue.npz", **random_matcher(seed=1))
    with pytest.raises(CalibrationError, match="matched by another version of lighterglue"):
        answers(glue, file=place / file_name(identity))
