"""Edge maps in place of photos: the detectors, the user's own maps, the steps that read them, and errors."""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.photos.cache import build_cache
from pipelines.photos.edge_maps import edge_maps
from pipelines.photos.edges import MARGIN, check_edges, edge_map, edges_state, resolve_edges, sobel, structured
from pipelines.photos.formats import PhotoFolderError
from pipelines.photos.intake import list_photos
from pipelines.photos.reader import PhotoError
from pipelines.photos.reading import Reading
from pipelines.photos.sketches import grey_levels
from tests.helpers.faulty_storage import faulty_storage, upload
from tests.helpers.small import draw, draw_folder


def sobel_by_hand(pixels):
    """Smoothed and differentiated pixel by pixel, the border repeated."""
    grey = grey_levels(pixels).astype(float)
    height, width = grey.shape

    def at(image, y, x):
        return image[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]

    binomial = (1, 4, 6, 4, 1)
    smooth, result = np.zeros_like(grey), np.zeros_like(grey)
    for y in range(height):
        for x in range(width):
            smooth[y, x] = sum(
                a * b * at(grey, y + dy - 2, x + dx - 2)
                for dy, a in enumerate(binomial)
                for dx, b in enumerate(binomial)
            )
    smooth /= 256
    for y in range(height):
        for x in range(width):
            right, down = (
                sum(
                    weight * (at(smooth, *plus) - at(smooth, *minus))
                    for weight, plus, minus in zip((1, 2, 1), ends, starts, strict=True)
                )
                for ends, starts in (
                    ([(y + d, x + 1) for d in (-1, 0, 1)], [(y + d, x - 1) for d in (-1, 0, 1)]),
                    ([(y + 1, x + d) for d in (-1, 0, 1)], [(y - 1, x + d) for d in (-1, 0, 1)]),
                )
            )
            result[y, x] = (right**2 + down**2) ** 0.5 / 4 / 255
    return result


def test_sobel_is_the_loop():
    pixels = np.random.default_rng(0).integers(0, 256, (11, 14, 3), np.uint8)
    np.testing.assert_allclose(sobel(pixels), sobel_by_hand(pixels), atol=1e-6)
    assert not sobel(np.full((9, 9, 3), 77, np.uint8)).any()


def box(height=60, width=80):
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[20:40, 30:60] = 220
    return pixels


@pytest.mark.parametrize("kind", ["sobel", "canny"])
def test_edges_stand_where_a_box_ends_and_have_a_margin(kind, tmp_path):
    if kind == "canny":
        pytest.importorskip("cv2")
    found = edge_map(kind, box(), tmp_path, "box.png")
    assert (found.shape, found.dtype) == ((60 + 2 * MARGIN, 80 + 2 * MARGIN, 3), np.uint8)
    assert (found == found[..., :1]).all()
    edges = found[..., 0] > 64
    assert not edges[: MARGIN + 17].any()  # the photo's own border is no edge
    rows, columns = np.nonzero(edges)
    inside = (rows - MARGIN > 23) & (rows - MARGIN < 36) & (columns - MARGIN > 33) & (columns - MARGIN < 56)
    assert not inside.any()
    assert edges[MARGIN + 18 : MARGIN + 22, MARGIN + 35 : MARGIN + 55].any(axis=0).all()


def test_canny_without_opencv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match=r"pip install \"keras-retrieval\[edges\]\""):
        resolve_edges("canny")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("prewitt", "--edges must be sobel, canny, .*, got prewitt"),
        ("structured", "must be sobel, .*, got structured"),
        ("folder:", "must be sobel, .*, got folder:"),
        ("structured:gone.yml.gz", "gone.yml.gz: the file does not exist"),
        ("folder:gone", "gone does not exist"),
    ],
)
def test_unknown_kinds_are_refused_before_photos_are_read(kind, message):
    if "yml" in kind:
        pytest.importorskip("cv2.ximgproc", exc_type=ImportError)
    with pytest.raises(ValueError, match=message):
        resolve_edges(kind)


def write_forest(path):
    """A model in OpenCV's format: one tree, which says edge where its patch's middle is steep."""
    cv2 = pytest.importorskip("cv2")
    patch = {"patchSize": 32, "patchInnerSize": 16, "stride": 2, "shrinkNumber": 2, "selfsimilarityGridSize": 5}
    trees = {"numberOfTrees": 1, "numberOfTreesToEvaluate": 1, "numberOfGradientOrientations": 4}
    radii = {"gradientSmoothingRadius": 0, "regFeatureSmoothingRadius": 2, "ssFeatureSmoothingRadius": 8}
    steepness = 3 * 16**2 + 8 * 16 + 8  # the channel behind three of colour, and the middle of 16 x 16
    nodes = {"childs": [2, 0, 0], "featureIds": [steepness, 0, 0], "thresholds": [0.02, 0.0, 0.0]}
    file = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    file.startWriteStruct("options", cv2.FileNode_MAP)
    for name, value in {**patch, **trees, **radii, "gradientNormalizationRadius": 4}.items():
        file.write(name, value)
    file.endWriteStruct()
    for name, values in {**nodes, "edgeBoundaries": [0, 0, 0, 1], "edgeBins": [8 * 16 + 8]}.items():
        file.startWriteStruct(name, cv2.FileNode_SEQ)
        for value in values:
            file.write("", value)
        file.endWriteStruct()
    file.release()


def test_structured_edges_are_those_of_the_model_s_file(tmp_path):
    pytest.importorskip("cv2.ximgproc", exc_type=ImportError)
    write_forest(tmp_path / "model.yml.gz")
    kind = resolve_edges(f"structured:{tmp_path / 'model.yml.gz'}")
    edges = structured(box(64, 96), kind.partition(":")[2])
    assert edges.shape == (64, 96)
    across = np.flatnonzero(edges[30] > 0)
    assert len(across) >= 4
    assert all(min(abs(column - 30), abs(column - 60)) < 6 for column in across)
    found = Reading(tmp_path, None, edges=kind)
    Image.fromarray(box(64, 96)).save(tmp_path / "box.png")
    np.testing.assert_array_equal(
        found.read("box.png")[MARGIN:-MARGIN, MARGIN:-MARGIN, 0], np.rint(255 * edges).astype(np.uint8)
    )


def test_a_damaged_model_of_structured_edges(tmp_path):
    pytest.importorskip("cv2.ximgproc", exc_type=ImportError)
    (tmp_path / "model.yml.gz").write_bytes(b"no model")
    with pytest.raises(ValueError, match="OpenCV cannot read it"):
        resolve_edges(f"structured:{tmp_path / 'model.yml.gz'}")


def test_maps_of_ones_own_are_found_by_name_and_cut_as_the_photo(tmp_path):
    draw(tmp_path / "photos" / "a" / "house.jpg", 60, 80)
    own = np.zeros((120, 160), np.uint8)
    own[40:80, 60:120] = 255  # twice the photo's size
    (tmp_path / "maps" / "a").mkdir(parents=True)
    Image.fromarray(own).save(tmp_path / "maps" / "a" / "house.png")
    kind = f"folder:{tmp_path / 'maps'}"
    resolve_edges(kind)
    reading = Reading(tmp_path / "photos", None, edges=kind)
    inside = np.s_[MARGIN:-MARGIN, MARGIN:-MARGIN, 0]
    whole = reading.read("a/house.jpg")[inside]
    assert whole.shape == (60, 80)
    assert (whole[22:38, 32:58] == 255).all()
    assert not whole[:18].any()
    cut = reading.read("a/house.jpg", (30, 20, 60, 40))[inside]
    assert cut.shape == (20, 30)
    assert (cut == 255).all()
    draw(tmp_path / "photos" / "b.jpg", 60, 80)
    with pytest.raises(PhotoError, match="it has no edge map in"):
        reading.read("b.jpg")


def test_maps_that_were_written_are_those_of_the_photos(tmp_path):
    draw_folder(tmp_path / "photos", 2)
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    kind = resolve_edges(f"folder:{tmp_path / 'maps'}")
    for name in list_photos(tmp_path / "photos"):
        own, found = (Reading(tmp_path / "photos", 40, edges=edges).read(name) for edges in (kind, "sobel"))
        np.testing.assert_array_equal(own, found)


def test_maps_at_an_address_are_those_of_a_folder(tmp_path, monkeypatch):
    names = [*draw_folder(tmp_path / "photos", 2), "names.png"]
    draw(tmp_path / "photos" / "names.png", 60, 80, seed=9)
    edge_maps(tmp_path / "photos", tmp_path / "maps", size=40)
    here = resolve_edges(f"folder:{tmp_path / 'maps'}")
    with faulty_storage(monkeypatch) as faults:
        upload(tmp_path / "photos", "bucket/photos")
        upload(tmp_path / "maps", "bucket/maps")
        faults.every, faults.outage = 5, (0.0, 60.0)
        check_edges("--edges", "folder:faulty://bucket/maps")
        there = resolve_edges("folder:faulty://bucket/maps/")
        assert there == "folder:faulty://bucket/maps"
        photos = Path("faulty://bucket/photos")
        for name in names:
            for crop in (None, (3, 5, 30, 40)):
                expected = Reading(tmp_path / "photos", 40, edges=here).read(name, crop)
                np.testing.assert_array_equal(Reading(photos, 40, edges=there).read(name, crop), expected)
        with pytest.raises(PhotoError, match="it has no edge map in faulty://bucket/maps"):
            edge_map(there, np.zeros((9, 9, 3), np.uint8), photos, "other.png")
        before = edges_state(there)
        assert before == edges_state(there)
        assert len(before) == 4
        upload(tmp_path / "maps", "bucket/maps")
        assert before != edges_state(there)
        with pytest.raises(PhotoFolderError, match="faulty://bucket/none does not exist"):
            resolve_edges("folder:faulty://bucket/none")
    with pytest.raises(ArgumentError, match="folder:https://host/maps: manifests would show the user name"):
        check_edges("--edges", "folder:https://me:secret@host/maps")


def test_other_maps_are_told_from_the_same(tmp_path):
    """So that a finished step with other maps is not taken for done."""
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "maps" / "a.png")
    kind = resolve_edges(f"folder:{tmp_path}/photos/../maps")
    assert kind == f"folder:{tmp_path / 'maps'}"
    before = edges_state(kind)
    assert before == edges_state(kind)
    Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / "maps" / "a.png")
    assert before != edges_state(kind)
    assert edges_state("sobel") == ["sobel"]


def test_a_cache_of_edge_maps_is_none_of_photos(tmp_path):
    names = draw_folder(tmp_path / "photos", 3)
    reading = Reading(tmp_path / "photos", 40, edges="sobel")
    cache = build_cache(tmp_path / "cache", names, reading)
    for name in names:
        np.testing.assert_array_equal(cache.read(name), reading.read(name))
    with pytest.raises(ValueError, match="was made from other photos or options"):
        build_cache(tmp_path / "cache", names, Reading(tmp_path / "photos", 40))


def test_own_maps_are_found_by_names_in_either_unicode_form(tmp_path):
    for stored, other in (("NFC", "NFD"), ("NFD", "NFC")):
        maps = tmp_path / stored
        maps.mkdir()
        Image.new("L", (40, 30), 7).save(maps / unicodedata.normalize(stored, "K\u00f6ln.png"))
        name = unicodedata.normalize(other, "K\u00f6ln.jpg")
        found = edge_map(resolve_edges(f"folder:{maps}"), np.zeros((30, 40, 3), np.uint8), tmp_path, name)
        assert (found[MARGIN:-MARGIN, MARGIN:-MARGIN] == 7).all()
