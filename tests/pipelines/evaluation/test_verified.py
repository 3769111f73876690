"""evaluate --verify: photos that share points with the query move to the front of its ranking, also of a part of it."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_retrieval.errors import ArgumentError
from pipelines.evaluation.evaluate import evaluate
from tests.helpers.small_local_features import save_weights
from tests.helpers.small_network import save_network
from tests.helpers.small_xfeat import patterned_photo

pytest.importorskip("pycolmap", reason='pip install "keras-retrieval[sfm]"')


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two views of a pattern, of which one is so dark that the network takes it for something else, and noise."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "photos").mkdir()
    whole = patterned_photo(200, 260)
    chance = np.random.default_rng(0)
    # The second view is darker; XFeat normalises each photo. By whole cells of its coarsest map, as weights are random.
    photos = {"query.png": whole[:128, :160], "view.png": whole[32:160, 32:192] // 3}
    for number in range(3):
        photos[f"noise{number}.png"] = chance.integers(0, 256, (128, 160, 3)).astype(np.uint8)
    for name, pixels in photos.items():
        Image.fromarray(pixels).save(folder / "photos" / name)
    queries = [
        {"photo": "query.png", "positives": ["view.png"], "box": [0, 0, 160, 128]},
        {"photo": "query.png", "positives": ["view.png"]},
    ]
    database = ["view.png", *(f"noise{number}.png" for number in range(3))]
    (folder / "mine.json").write_text(json.dumps({"database": database, "queries": queries}))
    save_network(folder / "small.keras")
    save_weights(folder / "xfeat.npz")
    return folder


def scored(made, output, **options):
    return evaluate(
        str(made / "small.keras"),
        dataset=str(made / "mine.json"),
        photos=made / "photos",
        output=output,
        precision="float32",
        local=str(made / "xfeat.npz"),
        features=400,
        **options,
    )


@pytest.fixture(scope="module")
def plain(made, tmp_path_factory):
    """The scores without verification."""
    return scored(made, tmp_path_factory.mktemp("plain"))


def test_verified_photos_come_first(made, plain, tmp_path):
    verified = scored(made, tmp_path, verify=10)
    assert plain["mean"]["all"]["mAP"] < 1
    assert verified["mean"]["all"]["mAP"] == 1
    assert verified["verify"] == 10
    assert verified["local"]["features"] == 400
    assert verified["local"]["bytes_per_photo"] > 1000
    assert "verify" not in plain
    assert "verified by local features" in (tmp_path / "page.html").read_text()


def test_features_are_stored_in_the_type_that_is_given(made, tmp_path):
    found = scored(made, tmp_path, verify=10, local_storage="int8")
    assert found["mean"]["all"]["mAP"] == 1
    assert found["local"]["storage"] == "int8"
    assert found["local"]["bytes_per_photo"] < 400 * 68 + 100


def test_only_the_first_photos_are_verified(made, plain, tmp_path):
    one = scored(made, tmp_path, verify=1)
    assert one["mean"] == plain["mean"]


def test_options_that_do_not_go_together(made, tmp_path):
    with pytest.raises(ArgumentError, match="--verify is for photos: leave --edges out"):
        scored(made, tmp_path, verify=1, edges="sobel")
