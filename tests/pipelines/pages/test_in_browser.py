"""Each kind of page in a real browser: opens from the disk, loads nothing, is readable, and turns models in 3D."""

import base64
import io
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from export.indexes.page import search_page
from export.indexes.ranking import SearchResult
from pipelines.cleaning.landmark import Landmark
from pipelines.cleaning.page import cleaning_page
from pipelines.evaluation.ground_truth import GroundTruth
from pipelines.evaluation.page import evaluation_page
from pipelines.evaluation.rankings import Ranking
from pipelines.evaluation.scores import score
from pipelines.sfm.page import page as reconstruction_page
from pipelines.training.page import classification_page, proposals_page, training_page
from pipelines.training.samples import Sample
from tests.helpers.browser import assert_accessible, assert_readable, chromium, requests, show
from tests.helpers.small_network import draw_photo

NAMES = ["a.png", "<b>&\"'.png", "a photo of a name that is long " + "and longer " * 12 + ".png", "日本\u202e.png"]
HISTORY = [
    {"epoch": number + 1, "loss": 1 / (number + 1), "val_loss": 0.8, "learning_rate": 1e-6, "p": 3.0, "accuracy": 0.5}
    for number in range(12)
]
CAMERAS = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        draw_photo(folder / name, number, 0)
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A reconstruction of a ring of cameras around coloured points."""
    pycolmap = pytest.importorskip("pycolmap")
    work = tmp_path_factory.mktemp("work")
    pycolmap.set_random_seed(0)
    model = pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(
            num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=CAMERAS, num_points3D=3000
        )
    )
    for point in model.points3D.values():
        point.color = np.array([200, 40, 160], np.uint8)
    (work / "models" / "x" / "0").mkdir(parents=True)
    model.write(work / "models" / "x" / "0")
    names = sorted(image.name for image in model.images.values())
    (work / "images").mkdir()
    for number, name in enumerate(names):
        draw_photo(work / "images" / name, number, 0)
    cluster = {
        "photos": names,
        "models": [{"folder": "models/x/0", "photos": names, "points": 3000, "observations": 9000, "error": 0.4}],
        "left_out": {NAMES[2]: "COLMAP finds no features in it"},
    }
    report = {
        "pairs": {"all": 15, "tried": 12, "verified": 9}, "options": {"pairs": "retrieval", "neighbours": 8},
        "rounds": [{"by": "descriptors", "pairs": 12}], "seconds": {"pairs": 3.0}, "photo_count": 8,
        "clusters": [cluster], "same_object": [], "left_out": {NAMES[1]: "damaged", NAMES[2]: "no features"},
    }  # fmt: skip
    (work / "report.json").write_text(json.dumps(report))
    return work


def search(photos):
    class Index:
        facts: ClassVar = {
            "exif": True, "max_pixels": 10**8, "model": {"name": "vgg16_gem"}, "dimensions": 512, "size": 1024,
            "configuration": {"kind": "exact"}, "edges": "",
        }  # fmt: skip

        def __len__(self):
            return len(NAMES)

    found = [SearchResult(photos / NAMES[0], [*NAMES[1:], "gone.png"], np.linspace(0.9, 0.1, 4), NAMES[0])]
    return search_page(Index(), found, 4, np.array([0.5]), photos, {NAMES[0]: "x", NAMES[1]: "x"})


def evaluation(photos):
    rows = np.array([[1, 0], [2, 3], [3, 2], [0, 1]])
    positives, junk = [np.array([1]), np.array([3])], [np.array([2]), np.array([1])]
    truth = GroundTruth("small", "revisited", NAMES, NAMES[:2], positives, [np.array([3]), np.array([0])], junk)
    ranking = Ranking(
        rows, [(4, 4, 40, 30), None], lambda row: photos / NAMES[row], lambda row: photos / NAMES[row], {}, ["vgg"], {}
    )
    return evaluation_page(truth, ranking, score(truth, rows), ["2 queries in 4 photos"])


def cleaning(photos):
    landmark = Landmark("a place", NAMES[:2], {NAMES[2]: "no match"}, {NAMES[0]: [4.0, 4.0, 40.0, 30.0]}, 3, 2, 5)
    return cleaning_page([landmark], photos, {"min_inliers": 20})


def training(photos):
    samples = [Sample(NAMES[0], NAMES[1], NAMES[2:])]
    scores = {"before": {"mAP easy": 0.4, "mAP hard": None}, "after": {"mAP easy": 0.5, "mAP hard": 0.2}}
    facts = ["Adam, 1e-06 x exp(-0.01 epoch), L2 0.0001, 362 px exact", "epoch 12 of 12 kept, by val_loss"]
    return training_page("Training of vgg16_gem", facts, HISTORY, scores, {"before training": samples}, photos)


def classification(photos):
    return classification_page("Classification with vgg16_rmac", ["3 landmarks"], HISTORY)


def proposals(photos):
    recall = {"grid, 3 levels, 22 a photo": {"boxes at overlap 0.5, %": 0.3, "boxes at overlap 0.7, %": 0.1}}
    return proposals_page("Region proposals of vgg16_rmac", ["learned from 9 photos"], HISTORY, recall)


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


def open_file(browser, path: Path):
    browser.get("about:blank")
    requests(browser)
    browser.get_log("browser")
    browser.get(path.as_uri())
    return path.as_uri()


def assert_silent(browser, address):
    assert requests(browser) == [address]
    # What the CPU's WebGL says of its own speed is not the page's.
    assert [entry for entry in browser.get_log("browser") if "GL Driver Message" not in entry["message"]] == []


@pytest.mark.parametrize("kind", [search, evaluation, cleaning, training, classification, proposals])
def test_a_page_opens_from_the_disk_and_is_readable(browser, photos, tmp_path, kind):
    path = tmp_path / "page.html"
    path.write_text(kind(photos), encoding="utf-8")
    address = open_file(browser, path)
    assert_accessible(browser)
    assert_readable(browser)
    for summary in browser.find_elements("css selector", "summary"):
        summary.click()
    assert_readable(browser)
    assert_silent(browser, address)


@pytest.fixture(scope="module")
def reconstruction(work):
    path = work / "index.html"
    path.write_text(reconstruction_page(json.loads((work / "report.json").read_text()), work), encoding="utf-8")
    return path


class Stage:
    """The first model of a page."""

    def __init__(self, browser):
        self.browser = browser

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def wait(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.browser, 20, 0.05).until(lambda _: condition())

    def pixels(self):
        """The canvas' (H, W, 4), when it is drawn."""
        address = self.browser.execute_async_script("""
          const done = arguments[0];
          const read = () => done(document.querySelector(".stage canvas").toDataURL());
          requestAnimationFrame(() => requestAnimationFrame(read));""")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))).astype(int)

    def points(self):
        """Which pixels have the points' colour."""
        pixels = self.pixels()
        return np.abs(pixels - (200, 40, 160, 255)).sum(axis=2) < 30


@pytest.fixture
def stage(browser, reconstruction):
    show(browser, 1280, "light")
    open_file(browser, reconstruction)
    stage = Stage(browser)
    stage.wait(lambda: browser.find_elements("css selector", ".turning canvas"))
    stage.wait(lambda: stage.points().any())
    yield stage
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_reconstruction_opens_from_the_disk_and_is_readable(browser, stage, reconstruction):
    assert_accessible(browser)
    assert_readable(browser)
    assert_silent(browser, reconstruction.as_uri())
    assert not stage.find(".plan").is_displayed()
    assert stage.find("#how").is_displayed()


def test_a_model_is_drawn_in_its_colours_and_turns(browser, stage):
    from selenium.webdriver import ActionChains, Keys

    before = stage.points()
    assert 0.003 < before.mean() < 0.5
    assert stage.pixels()[..., 3].mean() < 150, "the ground is that of the page"
    canvas = stage.find("canvas")
    ActionChains(browser).drag_and_drop_by_offset(canvas, 150, 40).perform()
    stage.wait(lambda: (stage.points() ^ before).sum() > 0.3 * before.sum())
    turned = stage.points()
    ActionChains(browser).send_keys(Keys.ARROW_LEFT, Keys.ARROW_DOWN).perform()
    stage.wait(lambda: (stage.points() ^ turned).sum() > 0.1 * turned.sum())
    ActionChains(browser).send_keys("+", "+", "+", "+").perform()
    stage.wait(
        lambda: np.ptp(np.argwhere(stage.points()), axis=0).prod() > 1.1 * np.ptp(np.argwhere(turned), axis=0).prod()
    )
    stage.find(".tools button").click()
    stage.wait(lambda: (stage.points() == before).all())


def test_a_camera_shows_its_photo_and_a_photo_its_camera(browser, stage, work):
    from selenium.webdriver import ActionChains, Keys

    note, images = stage.find(".chosen"), browser.find_elements("css selector", ".thumbs img")
    assert len(images) == CAMERAS
    images[2].click()
    assert note.text == images[2].get_attribute("alt")
    assert note.find_element("css selector", "img").get_attribute("src") == images[2].get_attribute("src")
    assert images[2].get_attribute("aria-pressed") == "true"
    # The chosen camera is blue, the others are red: a click into the blue one chooses it again.
    blue = np.abs(stage.pixels()[..., :3] - (32, 89, 189)).sum(axis=2) < 90
    stage.wait(lambda: blue.sum() > 20)
    y, x = np.argwhere(blue).mean(axis=0)
    images[2].click()
    assert not note.is_displayed()
    canvas = stage.find("canvas")
    offset = round(x - canvas.size["width"] / 2), round(y - canvas.size["height"] / 2)
    ActionChains(browser).move_to_element_with_offset(canvas, *offset).click().perform()
    stage.wait(note.is_displayed)
    assert note.text in {image.get_attribute("alt") for image in images}
    ActionChains(browser).send_keys(Keys.ESCAPE).send_keys(".", ".").perform()
    assert note.text == images[1].get_attribute("alt")


def test_without_webgl_the_plan_view_stays(browser, reconstruction):
    script = "HTMLCanvasElement.prototype.getContext = () => null;"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        open_file(browser, reconstruction)
        stage = Stage(browser)
        assert stage.find(".plan").is_displayed()
        assert stage.find(".plan").size["width"] > 200
        assert not stage.find("#how").is_displayed()
        assert browser.find_elements("css selector", ".stage canvas, .tools") == []
        logged = [entry["message"] for entry in browser.get_log("browser")]
        assert all("THREE.WebGLRenderer" in message for message in logged), logged
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_without_the_viewer_the_plan_view_stays(browser, work, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.sfm.page.viewer_script", str)
    path = tmp_path / "page.html"
    path.write_text(reconstruction_page(json.loads((work / "report.json").read_text()), work), encoding="utf-8")
    address = open_file(browser, path)
    assert "<script" not in path.read_text(encoding="utf-8")
    assert Stage(browser).find(".plan").is_displayed()
    assert_silent(browser, address)
