"""Local features in files: those of each photo, in the pixels of the upright photo, whatever happens to a run."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.files.durable import FolderError, partial_of, read_manifest
from pipelines.files.shards import read_left_out
from pipelines.local_features import extraction
from pipelines.local_features.errors import LocalFeaturesError
from pipelines.local_features.extraction import LocalSettings, extract_local_features
from pipelines.local_features.extractors import open_extractor, reopen_extractor
from pipelines.local_features.features import from_records, to_records
from pipelines.local_features.folder import KIND, VERSION, local_features_of, open_features
from tests.helpers.faulty_storage import FaultyFileSystem, faulty_storage, upload
from tests.helpers.small_local_features import draw_patterns, save_weights, scattered


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_weights(tmp_path_factory.mktemp("weights") / "xfeat.npz")


@pytest.fixture(scope="module")
def extractor(weights):
    return open_extractor(str(weights), top_k=40, size=1024, max_pixels=10**6)


@pytest.fixture
def opened(extractor, monkeypatch):
    """Extraction with the extractor that is compiled already, in shards of two photos."""
    monkeypatch.setattr(extraction, "PHOTOS_PER_SHARD", 2)
    monkeypatch.setattr(extraction, "open_extractor", lambda *_, **__: extractor)


@pytest.fixture
def photos(tmp_path):
    return draw_patterns(tmp_path / "photos")


def names_of(photos):
    return sorted(path.name for path in photos.iterdir())


def test_stored_features_are_those_of_the_extractor(opened, extractor, weights, photos, tmp_path):
    settings = LocalSettings(str(weights), features=40)
    facts = extract_local_features(photos, names_of(photos), tmp_path / "local", settings)
    stored = open_features(tmp_path / "local")
    assert stored.names == names_of(photos)
    assert facts["count"] == 5
    assert facts["feature_count"] == sum(len(stored.read(name)) for name in stored.names)
    size = sum(np.load(path).nbytes for path in (tmp_path / "local").glob("*.npy"))
    assert facts["bytes_per_photo"] == pytest.approx(size / 5, abs=1)
    for name in stored.names:
        expected, found = extractor.of_photo(photos / name), stored.read(name)
        assert len(found) == len(expected) > 20
        assert (found.width, found.height) == (128, 96)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=0.01)
        np.testing.assert_allclose(found.descriptors, expected.descriptors, atol=1e-3)


def test_a_photo_that_cannot_be_read_costs_itself(opened, weights, photos, tmp_path):
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:300])
    Image.new("RGB", (64, 64)).save(photos / "black.png")
    facts = extract_local_features(photos, names_of(photos), tmp_path / "local", LocalSettings(str(weights)))
    assert facts["left_out"] == 2
    assert read_left_out(tmp_path / "local")["black.png"] == "it has no local features"
    stored = open_features(tmp_path / "local")
    assert "1.png" not in stored
    assert len(stored) == 4


def test_a_killed_run_continues_and_ends_with_the_same_files(opened, extractor, weights, photos, tmp_path, monkeypatch):
    settings, names = LocalSettings(str(weights)), names_of(photos)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    extract_local_features(photos, names, whole, settings)
    seen = []

    class Killed(BaseException):
        """Ends the process."""

    def features(pixels, extent):
        if len(seen) == 3:
            raise Killed
        seen.append(extent)
        return type(extractor).features(extractor, pixels, extent)

    monkeypatch.setitem(extractor.__dict__, "features", features)
    with pytest.raises(Killed):
        extract_local_features(photos, names, killed, settings)
    monkeypatch.delitem(extractor.__dict__, "features")
    assert not killed.exists()
    assert len(list(partial_of(killed).glob("features-*.npy"))) == 1
    extract_local_features(photos, names, killed, settings)
    for path in whole.glob("*.npy"):
        assert (killed / path.name).read_bytes() == path.read_bytes()
    assert (killed / "names.txt").read_text() == (whole / "names.txt").read_text()


def test_a_complete_folder_is_kept_and_another_replaced_on_request(opened, weights, photos, tmp_path):
    folder, names = tmp_path / "local", names_of(photos)
    extract_local_features(photos, names, folder, LocalSettings(str(weights)))
    before = (folder / "manifest.json").stat().st_mtime_ns
    extract_local_features(photos, names, folder, LocalSettings(str(weights)))
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(FolderError, match="--replace"):
        extract_local_features(photos, names, folder, LocalSettings(str(weights), storage="int8"))
    extract_local_features(photos, names, folder, LocalSettings(str(weights), storage="int8"), replace=True)
    assert read_manifest(folder, kind=KIND, version=VERSION)["storage"] == "int8"


def test_photos_without_any_feature_are_an_error(opened, weights, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "black.png")
    with pytest.raises(LocalFeaturesError, match="finds no local features in any of the 1 photos"):
        extract_local_features(tmp_path / "photos", ["black.png"], tmp_path / "local", LocalSettings(str(weights)))
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize(("storage", "size", "tolerance"), [("float16", 132, 1e-3), ("int8", 68, 6e-3)])
def test_records_have_the_stated_size_and_keep_the_features(storage, size, tolerance):
    features = scattered(30)
    records = to_records(features, storage)
    assert records.dtype.itemsize == size
    found = from_records(records, np.array((30, 400, 300), [("features", "i4"), ("width", "i4"), ("height", "i4")]))
    np.testing.assert_allclose(found.keypoints, features.keypoints, atol=0.01)
    np.testing.assert_allclose(found.descriptors, features.descriptors, atol=tolerance)


def test_features_are_in_pixels_of_the_whole_upright_photo(extractor, photos, tmp_path):
    """Enlarged beforehand, turned by EXIF, and a box: the same corners at the same places."""
    photo = Image.open(photos / "0.png")
    large = photo.resize((256, 192), Image.Resampling.LANCZOS)
    large.save(tmp_path / "large.png")
    exact = open_extractor_of(extractor, size=256)
    expected, found = extractor.of_photo(photos / "0.png"), exact.of_photo(tmp_path / "large.png")
    assert (found.width, found.height) == (256, 192)
    np.testing.assert_allclose(found.keypoints, 2 * expected.keypoints, atol=1e-3)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned = extractor.of_photo(tmp_path / "turned.png")
    np.testing.assert_allclose(turned.keypoints, expected.keypoints, atol=1e-3)
    part = extractor.of_photo(photos / "0.png", crop=(32, 0, 128, 64))
    assert (part.width, part.height) == (128, 96)
    assert part.keypoints[:, 0].min() >= 32
    assert part.keypoints[:, 1].max() <= 64


def open_extractor_of(extractor, **changes):
    return type(extractor)(**{**extractor.__dict__, **changes})


def test_features_inside_a_box():
    features = scattered(50)
    inside = features.inside((100, 50, 200, 150))
    expected = [row for row, (x, y) in enumerate(features.keypoints.tolist()) if 100 <= x <= 200 and 50 <= y <= 150]
    np.testing.assert_array_equal(inside.keypoints, features.keypoints[expected])
    np.testing.assert_array_equal(inside.descriptors, features.descriptors[expected])
    assert features.inside(None) is features


def test_a_damaged_folder_is_named(opened, weights, photos, tmp_path):
    folder = tmp_path / "local"
    extract_local_features(photos, names_of(photos), folder, LocalSettings(str(weights)))
    sound = np.load(folder / "photos-00000.npy")
    for part, wrong in {"features": (-1, sound["features"][:2].sum() + 1), "width": (0, 9), "height": (9, -9)}.items():
        changed = sound.copy()
        changed[part][:2] = wrong
        np.save(folder / "photos-00000.npy", changed)
        with pytest.raises(FolderError, match="its features are not those of its"):
            open_features(folder)
    np.save(folder / "photos-00000.npy", np.zeros(2))
    with pytest.raises(FolderError, match=r"photos-00000\.npy contains float64"):
        open_features(folder)
    (folder / "photos-00000.npy").write_bytes(b"no array")
    with pytest.raises(FolderError, match=r"photos-00000\.npy is not an array"):
        open_features(folder)
    facts = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(facts | {"storage": "int8"}))
    with pytest.raises(FolderError, match="has changed since it was written"):
        open_features(folder)


def test_the_extractor_of_stored_features_is_found_again(weights, tmp_path):
    moved = tmp_path / "weights.npz"
    moved.write_bytes(weights.read_bytes())
    facts = LocalSettings(str(moved), features=7).facts()
    moved.write_bytes(b"another file")
    with pytest.raises(LocalFeaturesError, match="another version"):
        reopen_extractor(facts)
    moved.unlink()
    with pytest.raises(LocalFeaturesError, match=r"weights\.npz, which no longer exists"):
        reopen_extractor(facts)
    onnx = facts | {"extractor": facts["extractor"] | {"name": "aliked", "path": str(tmp_path / "gone.onnx")}}
    with pytest.raises(LocalFeaturesError, match="no longer exists"):
        reopen_extractor(onnx)


def test_features_at_an_address_are_those_of_a_folder_whatever_happens(opened, weights, photos, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path / "cache"))
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:300])
    settings, names = LocalSettings(str(weights)), names_of(photos)
    extract_local_features(photos, names, tmp_path / "local", settings)
    with faulty_storage(monkeypatch) as faults:
        upload(photos, "bucket/photos")
        there, output = Path("faulty://bucket/photos"), Path("faulty://bucket/descriptors/local")
        met, faults.every = faults.met, 5

        def killed(request, path):
            met(request, path)
            if request == "write" and path.endswith("shard-00001.json"):
                raise KeyboardInterrupt

        faults.met = killed
        with pytest.raises(KeyboardInterrupt):
            extract_local_features(there, names, output, settings)
        assert local_features_of(output.parent) is None
        faults.met = met
        faults.outage = faults.clock.now, faults.clock.now + 60
        extract_local_features(there, names, output, settings)
        right, found = open_features(tmp_path / "local"), open_features(local_features_of(output.parent))
        assert found.names == right.names == ["0.png", "2.png", "3.png", "4.png"]
        assert read_left_out(found.folder) == read_left_out(right.folder)
        for name in right.names:
            for one, other in zip(found.records(name), right.records(name), strict=True):
                np.testing.assert_array_equal(one, other)
        assert {name.rpartition("/")[2] for name in FaultyFileSystem.store if "/local/" in name} == {
            "manifest.json",
            *found.facts["sha256"],
        }
        faults.requests.clear()
        extract_local_features(there, names, output, settings)
        assert faults.count("read") < 9
        assert not faults.count("write")
        with pytest.raises(FolderError, match="faulty://bucket/descriptors/local was made from other photos"):
            extract_local_features(there, names, output, LocalSettings(str(weights), storage="int8"))
