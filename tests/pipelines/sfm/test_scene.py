"""Points and cameras of a model, and the summary that the page shows in 3D."""

import base64

import numpy as np
import pytest

from pipelines.sfm.scene import Scene, for_viewer, mean_up, read_scene

pycolmap = pytest.importorskip("pycolmap")


def made(points=400, cameras=3, seed=0):
    """A scene whose up is -y, as in photos, with cameras beside the points."""
    rng = np.random.default_rng(seed)
    places = rng.normal((5, 6, 7), size=(points, 3))
    return Scene(
        places,
        rng.integers(0, 256, (points, 3)).astype(np.uint8),
        np.array([(5.0 + number, 6.0, 2.0) for number in range(cameras)]).reshape(-1, 3),
        np.tile([0.0, 0, 1], (cameras, 1)),
        np.tile([0.0, -1, 0], (cameras, 1)),
        np.tile([0.5, 0.3], (cameras, 1)),
        [f"{number}.jpg" for number in range(cameras)],
    )


def array(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(-1, 3)


def test_a_frustum_ends_at_the_corners_of_its_photo(tmp_path):
    options = pycolmap.SyntheticDatasetOptions(num_rigs=1, num_cameras_per_rig=1, num_frames_per_rig=5, num_points3D=90)
    model = pycolmap.synthesize_dataset(options)
    model.write(tmp_path)
    scene = read_scene(tmp_path)
    assert len(scene.points) == len(scene.colours) == 90
    for image, ahead, upward, spans, centre, name in zip(
        (model.images[number] for number in sorted(model.reg_image_ids())),
        scene.ahead, scene.upward, scene.spans, scene.centres, scene.names, strict=True,
    ):  # fmt: skip
        assert image.name == name
        camera = model.cameras[image.camera_id]
        right = np.cross(ahead, upward)
        for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1)):
            corner = centre + ahead + x * spans[0] * right + y * spans[1] * upward
            seen = image.cam_from_world() * corner
            expected = (x * camera.width / 2, -y * camera.height / 2)
            np.testing.assert_allclose(seen[:2] / seen[2] * camera.mean_focal_length(), expected, atol=1e-6)


def test_the_view_is_upright_and_of_one_size():
    for scale in (1, 1000):
        scene = made()
        scene = Scene(
            scene.points * scale,
            scene.colours,
            scene.centres * scale,
            scene.ahead,
            scene.upward,
            scene.spans,
            scene.names,
        )
        view = for_viewer(scene, 1000, {"1.jpg": 4})
        points, colours = array(view["points"], "<f4"), array(view["colours"], np.uint8)
        np.testing.assert_array_equal(colours, scene.colours)
        np.testing.assert_allclose(np.median(points, axis=0), 0, atol=1e-5)
        # -y becomes +y, lengths keep their proportions, and nothing is mirrored.
        moved = scene.points - np.median(scene.points, axis=0)
        factor = np.linalg.norm(points, axis=1) / np.linalg.norm(moved, axis=1)
        np.testing.assert_allclose(factor, factor[0], rtol=1e-4)
        np.testing.assert_allclose(points[:, 1], -moved[:, 1] * factor[0], atol=1e-4)
        turn = np.linalg.lstsq(moved * factor[0], points, rcond=None)[0]
        assert np.linalg.det(turn) == pytest.approx(1, abs=1e-3)
        frusta = np.array([camera["frustum"] for camera in view["cameras"]])
        assert frusta.shape == (3, 5, 3)
        assert (
            0.9
            < max(np.linalg.norm(frusta[:, 0], axis=1).max(), np.percentile(np.linalg.norm(points, axis=1), 90))
            < 1.1
        )
        assert [(camera["name"], camera["photo"]) for camera in view["cameras"]] == [
            ("0.jpg", None),
            ("1.jpg", 4),
            ("2.jpg", None),
        ]
        # The corners run clockwise from the upper left: the first two are above.
        assert (frusta[:, 1:3, 1] > frusta[:, 3:, 1]).all()
        # First seen from the cameras' side, from above.
        eye = np.array(view["eye"])
        assert eye @ frusta[:, 0].mean(0) > 0
        assert eye[1] > 0


def test_a_thinned_model_keeps_points_with_their_colours():
    scene = made(points=500)
    whole, thin = for_viewer(scene, 500, {}), for_viewer(scene, 60, {})
    pairs = {(*point, *colour) for point, colour in zip(
        array(whole["points"], "<f4").tolist(), array(whole["colours"], np.uint8).tolist(), strict=True)}  # fmt: skip
    kept = {(*point, *colour) for point, colour in zip(
        array(thin["points"], "<f4").tolist(), array(thin["colours"], np.uint8).tolist(), strict=True)}  # fmt: skip
    assert len(kept) == 60
    assert kept < pairs
    assert for_viewer(scene, 60, {}) == thin


@pytest.mark.parametrize(("points", "cameras"), [(0, 2), (1, 1), (40, 1)])
def test_small_models_have_finite_views(points, cameras):
    view = for_viewer(made(points, cameras), 10, {})
    assert np.isfinite(array(view["points"], "<f4")).all()
    assert np.isfinite([camera["frustum"] for camera in view["cameras"]]).all()
    assert np.isfinite(view["eye"]).all()


def test_cameras_that_cancel_out_have_an_up():
    scene = made(cameras=2)
    scene.upward[1] *= -1
    np.testing.assert_allclose(np.linalg.norm(mean_up(scene)), 1)
