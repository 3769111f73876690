"""An .onnx extractor is recognised by its inputs and outputs, whatever their layout."""

import numpy as np
import pytest

from pipelines.local_features.errors import LocalFeaturesError
from pipelines.local_features.extractors import check_extractor, open_extractor
from pipelines.photos.reader import PhotoError

onnx = pytest.importorskip("onnx", reason='pip install "keras-retrieval[onnx]"')
pytest.importorskip("onnxruntime", reason='pip install "keras-retrieval[onnx]"')

PLACES = np.array([[4, 6], [20, 10], [30, 40]], np.float32)
ROWS = np.eye(3, 8, dtype=np.float32) * 2
SCORES = np.array([0.2, 0.9, 0.5], np.float32)
PHOTO = np.arange(64 * 48 * 3, dtype=np.uint8).reshape(48, 64, 3)


def save(path, outputs, shape=(1, 3, "h", "w"), kind=1, name="image"):
    """A network whose outputs are constants, plus the mean of its input for scores."""
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info(name, kind, shape)
    nodes, made = [], []
    for output, values in outputs.items():
        constant = numpy_helper.from_array(values, f"{output}_values")
        nodes.append(helper.make_node("Constant", [], [output], value=constant))
        made.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * values.ndim))
    graph = helper.make_graph(nodes, "features", [given], made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def features(path, photo=PHOTO):
    extractor = open_extractor(str(path), top_k=10, size=1024, max_pixels=10**6)
    return extractor.features(photo, (photo.shape[1], photo.shape[0]))


@pytest.mark.parametrize(
    ("outputs", "shape"),
    [
        ({"keypoints": PLACES, "scores": SCORES, "descriptors": ROWS}, (1, 3, "h", "w")),
        ({"kpts": PLACES[None], "keypoint_scores": SCORES[None], "desc": ROWS[None]}, (1, 1, "h", "w")),
        ({"descriptors": ROWS.T[None], "scores": SCORES[None, :, None], "keypoints": PLACES[None]}, ("h", "w", 3)),
        (
            {"keypoints": (PLACES / np.array([63, 47], np.float32)) * 2 - 1, "scores": SCORES, "descriptors": ROWS},
            (1, 3, 48, 64),
        ),
    ],
)
def test_layouts_of_inputs_and_outputs(tmp_path, outputs, shape):
    found = features(save(tmp_path / "aliked.onnx", outputs, shape))
    best = [1, 2, 0]
    np.testing.assert_allclose(found.keypoints, PLACES[best] + 0.5, atol=1e-4)
    np.testing.assert_allclose(found.descriptors, np.eye(3, 8)[best])


def test_keypoints_of_a_fixed_size_are_scaled_to_the_photo(tmp_path):
    outputs = {"keypoints": PLACES, "scores": SCORES, "descriptors": ROWS}
    found = features(save(tmp_path / "fixed.onnx", outputs, (1, 3, 96, 128), kind=2))
    np.testing.assert_allclose(found.keypoints, (PLACES[[1, 2, 0]] + 0.5) / 2, atol=1e-4)


def test_without_scores_the_order_of_the_outputs_counts(tmp_path):
    found = features(save(tmp_path / "plain.onnx", {"keypoints": PLACES, "descriptors": ROWS}))
    np.testing.assert_allclose(found.keypoints, PLACES + 0.5, atol=1e-4)


def test_what_is_no_extractor_is_refused(tmp_path):
    classifier = save(tmp_path / "classes.onnx", {"logits": SCORES})
    with pytest.raises(LocalFeaturesError, match="of its outputs logits none is named keypoints"):
        features(classifier)
    text = save(tmp_path / "text.onnx", {"keypoints": PLACES, "descriptors": ROWS}, ("n", 5))
    with pytest.raises(LocalFeaturesError, match="its input must be one image with 1 or 3 channels"):
        features(text)
    (tmp_path / "damaged.onnx").write_bytes(b"no network")
    with pytest.raises(LocalFeaturesError, match="could not be loaded"):
        features(tmp_path / "damaged.onnx")
    with pytest.raises(LocalFeaturesError, match="--local must be xfeat, or a file"):
        check_extractor("--local", str(tmp_path / "nowhere.onnx"))


def test_outputs_of_different_lengths_cost_the_photo(tmp_path):
    path = save(tmp_path / "odd.onnx", {"keypoints": PLACES, "scores": SCORES[:2], "descriptors": ROWS})
    with pytest.raises(PhotoError, match="are not of one number"):
        features(path)
