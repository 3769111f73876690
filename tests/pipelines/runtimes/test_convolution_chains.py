"""Chains of convolutions are cut out of .onnx networks, and ncnn computes them as ONNX Runtime does."""

import sys

import numpy as np
import pytest

from pipelines.networks.errors import NetworkError
from pipelines.networks.onnx_network import open_session
from pipelines.runtimes import sessions
from pipelines.runtimes.convolution_chains import cut
from pipelines.runtimes.sessions import open_network

onnx = pytest.importorskip("onnx")
for package in ("ncnn", "onnxruntime"):
    pytest.importorskip(package)

node = onnx.helper.make_node


def network(path, nodes, **kernels):
    """Saves photos (B, H, W, 3) -> maps (B, 3, H, W) -> nodes, which give "y" -> descriptors (B, D); returns the path.

    Kernels are drawn; a shape of one number is that of a bias.
    """
    draw = np.random.default_rng(3).standard_normal
    weights = [
        onnx.numpy_helper.from_array((draw(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in kernels.items()
    ]
    photos = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, (None, None, None, 3))
    rows = onnx.helper.make_tensor_value_info("descriptors", onnx.TensorProto.FLOAT, (None, None))
    around = [
        node("Transpose", ["images"], ["x"], perm=[0, 3, 1, 2]),
        *nodes,
        node("GlobalAveragePool", ["y"], ["mean"]),
        node("Flatten", ["mean"], ["descriptors"]),
    ]
    graph = onnx.helper.make_graph(around, "small", [photos], [rows], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def differs(path, batch=2, sides=(29, 38)):
    """The largest difference of what ncnn and ONNX Runtime give."""
    images = np.random.default_rng(1).uniform(-1, 1, (batch, *sides, 3)).astype(np.float32)
    (expected,) = open_session(path).run(None, {"images": images})
    rows = open_network("ncnn", path)(images)
    assert rows.shape == expected.shape
    assert np.abs(expected).max() > 1e-3
    return np.abs(rows - expected).max()


FORMS = {
    "same": {"auto_pad": "SAME_UPPER"},
    "valid": {},
    "uneven": {"pads": [0, 1, 2, 3]},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_convolutions_of_all_forms(tmp_path, form):
    nodes = [
        node("Conv", ["x", "a", "b"], ["1"], **form),
        node("Relu", ["1"], ["2"]),
        node("Conv", ["2", "c"], ["y"]),  # without a bias
    ]
    path = network(tmp_path / "net.onnx", nodes, a=(16, 3, 3, 3), b=(16,), c=(8, 16, 3, 3))
    assert differs(path) < 1e-5


OTHERS = {
    "larger": ((5, 3), {}),
    "strides": ((3, 3), {"pads": [1, 0, 1, 0], "strides": [2, 3]}),
    "dilated": ((3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 1]}),
}


@pytest.mark.parametrize("openvino", [True, False], ids=["with OpenVINO", "without"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_around_a_chain(tmp_path, monkeypatch, other, openvino):
    """OpenVINO computes what is around chains where it is installed, else ONNX Runtime; batches are cut into parts."""
    if openvino:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(sessions, "PART_PIXELS", 2 * 29 * 38)
    kernel, form = other
    nodes = [
        node("Conv", ["x", "a", "b"], ["1"], **form),
        node("Relu", ["1"], ["2"]),
        node("Conv", ["2", "c"], ["3"], pads=[1, 1, 1, 1]),
        node("Conv", ["3", "d"], ["y"], auto_pad="SAME_UPPER"),
    ]
    path = network(tmp_path / "net.onnx", nodes, a=(16, 3, *kernel), b=(16,), c=(24, 16, 3, 3), d=(8, 24, 3, 3))
    (chain,) = cut(onnx.load(path)).chains
    assert (chain.source, chain.target) == ("2", "y")
    assert differs(path, 5) < 1e-5


def test_deep_convolutions_and_poolings(tmp_path):
    """Winograd's method needs 16 channels or more."""
    nodes = [
        node("Conv", ["x", "a", "b"], ["1"], pads=[1, 1, 1, 1]),
        node("Relu", ["1"], ["2"]),
        node("Conv", ["2", "c"], ["3"], auto_pad="SAME_UPPER"),
        node("MaxPool", ["3"], ["4"], kernel_shape=[3, 2], strides=[2, 1]),
        node("Conv", ["4", "d"], ["5"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["5"], ["y"], kernel_shape=[2, 2]),
    ]
    kernels = {"a": (32, 3, 3, 3), "b": (32,), "c": (48, 32, 3, 3), "d": (32, 48, 3, 3)}
    path = network(tmp_path / "net.onnx", nodes, **kernels)
    for sides in ((29, 38), (12, 61), (70, 9)):
        assert differs(path, 3, sides) < 1e-5
    assert differs(path, 1) < 1e-5


def test_two_scales_are_two_chains_of_the_same_weights(tmp_path):
    def trunk(source, target):
        names = [f"{target}{number}" for number in range(2)]
        conv = [node("Conv", [source, "a"], [names[0]]), node("Relu", names[:1], names[1:])]
        return [*conv, node("Conv", [names[1], "b"], [target])]

    nodes = [
        node("AveragePool", ["x"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        *trunk("x", "whole"),
        *trunk("half", "smaller"),
        node("GlobalMaxPool", ["whole"], ["p"]),
        node("GlobalMaxPool", ["smaller"], ["q"]),
        node("Add", ["p", "q"], ["y"]),
    ]
    path = network(tmp_path / "net.onnx", nodes, a=(16, 3, 3, 3), b=(8, 16, 3, 3))
    assert differs(path) < 1e-5


def test_the_rest_of_a_network_may_have_convolutions_and_read_the_photos(tmp_path):
    """What is little and comes after a chain, as NetVLAD's assignment, remains ONNX."""
    nodes = [
        node("Conv", ["x", "a"], ["1"]),
        node("Conv", ["1", "assignment"], ["2"]),
        node("GlobalAveragePool", ["x"], ["3"]),
        node("Conv", ["3", "assignment3"], ["4"]),
        node("Mul", ["1", "1"], ["5"]),  # so that the chain ends before the assignment
        node("GlobalMaxPool", ["5"], ["6"]),
        node("Conv", ["6", "assignment"], ["7"]),
        node("GlobalMaxPool", ["2"], ["8"]),
        node("Sum", ["7", "4", "8"], ["y"]),
    ]
    kernels = {"a": (64, 3, 3, 3), "assignment": (2, 64, 1, 1), "assignment3": (2, 3, 1, 1)}
    assert differs(network(tmp_path / "net.onnx", nodes, **kernels)) < 1e-5


SMALL = {"a": (4, 3, 3, 3), "b": (4, 4, 3, 3)}
REFUSED = {
    "residual": [
        node("Conv", ["x", "a"], ["1"]),
        node("Conv", ["1", "b"], ["2"], pads=[1, 1, 1, 1]),
        node("Add", ["1", "2"], ["y"]),
    ],
    "groups": [node("Conv", ["x", "g"], ["y"], group=3)],
    "computed weights": [node("Abs", ["a"], ["c"]), node("Conv", ["x", "c"], ["y"])],
    "no convolution": [node("Relu", ["x"], ["y"])],
    "same with strides": [node("Conv", ["x", "a"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
    "lower": [node("Conv", ["x", "a"], ["y"], auto_pad="SAME_LOWER")],
    "patches of a transformer": [
        node("Conv", ["x", "a"], ["1"]),
        node("Transpose", ["1"], ["2"], perm=[0, 2, 3, 1]),
        node("MatMul", ["2", "m"], ["3"]),
        node("MatMul", ["3", "m"], ["4"]),
        node("Transpose", ["4"], ["y"], perm=[0, 3, 1, 2]),
    ],
    "two outputs": [node("Conv", ["x", "a"], ["1"]), node("MaxPool", ["1"], ["y", "2"], kernel_shape=[2, 2])],
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused_or_left_to_onnx(tmp_path, name):
    path = network(tmp_path / "net.onnx", REFUSED[name], **SMALL, g=(6, 1, 3, 3), m=(4, 4))
    if name == "two outputs":
        assert differs(path) < 1e-5  # the pooling is not the chain's
        return
    with pytest.raises(NetworkError, match="takes only networks whose convolutions follow one another"):
        open_network("ncnn", path)


def test_branches_are_refused(tmp_path):
    branch = onnx.helper.make_graph(
        [node("Relu", ["x"], ["z"])], "branch", [], [onnx.helper.make_empty_tensor_value_info("z")]
    )
    nodes = [
        node("Conv", ["x", "a"], ["1"]),
        node("If", ["condition"], ["2"], then_branch=branch, else_branch=branch),
        node("Add", ["1", "2"], ["y"]),
    ]
    model = onnx.load(network(tmp_path / "net.onnx", nodes, **SMALL))
    with pytest.raises(NetworkError, match="branches"):
        cut(model)


def test_maps_smaller_than_a_kernel_are_an_error(tmp_path):
    path = network(tmp_path / "n.onnx", [node("Conv", ["x", "k"], ["y"])], k=(4, 3, 3, 3))
    with pytest.raises(NetworkError, match="ncnn could not compute y of 2 x 9 pixels"):
        open_network("ncnn", path)(np.zeros((1, 2, 9, 3), np.float32))
