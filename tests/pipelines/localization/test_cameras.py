"""Cameras of queries: how they are written, and the typical camera of photos."""

import pytest

from keras_retrieval.errors import ArgumentError
from pipelines.localization.cameras import MODELS, Camera, camera_of_photos, check_camera, parse_camera

pycolmap = pytest.importorskip("pycolmap")


def test_the_camera_models_are_those_of_colmap():
    known = {
        name: len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 4, 4).params)
        for name in pycolmap.CameraModelId.__members__
        if name != "INVALID"
    }
    assert known == {**MODELS, "EQUIRECTANGULAR": 2}


@pytest.mark.parametrize(
    "text", ["SIMPLE_RADIAL 1024 768 890 512 384 -5e-2", "SIMPLE_RADIAL,1024,768,890,512,384,-0.05"]
)
def test_a_camera_is_read_as_colmap_and_hloc_write_it(text):
    camera = parse_camera(text)
    assert camera == Camera("SIMPLE_RADIAL", 1024, 768, (890.0, 512.0, 384.0, -0.05))
    assert camera.to_colmap().params.tolist() == [890, 512, 384, -0.05]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "typo",
        "PINHOLE",
        "PINHOLE 0 4 5 5 2 2",
        "PINHOLE 4 4 5 5 2",
        "PINHOLE 4 4 0 5 2 2",
        "PINHOLE 4 4 1.2.3 5 2 2",
    ],
)
def test_what_is_no_camera_is_refused(text):
    assert parse_camera(text) is None
    with pytest.raises(ArgumentError, match="--camera must be auto, model, or a camera"):
        check_camera("--camera", text)


def test_the_camera_of_photos_is_the_median_of_those_of_the_size():
    def camera(focal, width=640):
        return pycolmap.Camera.create_from_model_name(1, "SIMPLE_RADIAL", focal, width, 480)

    cameras = [camera(500), camera(520), camera(900), camera(5000, width=800)]
    assert camera_of_photos(cameras, camera(1)).focal_length == 520
    other = camera_of_photos(cameras[:3], camera(1, width=1280))
    assert other.focal_length == pytest.approx(520 / 640 * 1280)
    assert (other.width, other.height) == (1280, 480)
