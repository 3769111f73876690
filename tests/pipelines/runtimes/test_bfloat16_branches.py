"""bfloat16 in the branches of a transformer's blocks, and float32 in their sums."""

import numpy as np
import openvino
import pytest
from openvino import Type
from openvino import opset13 as operations

from pipelines.runtimes.bfloat16_branches import branches_in_bfloat16

WIDTH = 6


def weights(rows, columns=WIDTH):
    return operations.constant(np.random.default_rng(rows).normal(size=(rows, columns)).astype(np.float32))


def block(tokens):
    """Attention and GELU as a converted network has them, with two sums; (B, N, 6), whose N is the batch's."""
    queries = operations.add(operations.matmul(tokens, weights(WIDTH), False, False), weights(1))
    scores = operations.matmul(operations.multiply(queries, operations.constant(np.float32(0.5))), queries, False, True)
    attended = operations.matmul(operations.softmax(scores, -1), queries, False, False)
    shape = operations.shape_of(attended)
    first = operations.add(tokens, operations.reshape(attended, shape, False))
    hidden = operations.matmul(operations.relu(first), weights(WIDTH, 9), False, False)
    gelu = operations.multiply(hidden, operations.add(operations.erf(hidden), operations.constant(np.float32(1.0))))
    return operations.add(first, operations.matmul(gelu, weights(9), False, False))


def changed(outputs, inputs):
    model = openvino.Model(outputs, inputs, "network")
    return model, branches_in_bfloat16(model)


@pytest.fixture
def tokens():
    return operations.parameter([-1, -1, WIDTH], np.float32, name="tokens")


def kinds(model):
    """The types of what each kind of operation gives."""
    found = {}
    for node in model.get_ordered_ops():
        found.setdefault(node.get_type_name(), []).append(node.get_output_element_type(0))
    return found


def test_branches_are_in_bfloat16_and_sums_in_float32(tokens):
    model, is_one = changed([block(tokens)], [tokens])
    assert is_one
    types = kinds(model)
    for kind in ("MatMul", "Softmax", "Reshape", "Multiply", "Erf"):
        assert set(types[kind]) == {Type.bf16}, kind
    # The bias and the 1 of GELU, and the two sums; ReLU follows a sum.
    assert sorted(map(str, types["Add"])) == sorted(map(str, [Type.bf16] * 2 + [Type.f32] * 2))
    assert types["Relu"] == [Type.f32]
    assert model.output(0).get_element_type() == Type.f32


def test_nothing_is_converted_within_a_branch(tokens):
    model, _ = changed([block(tokens)], [tokens])
    computed = [
        node.input_value(0).get_node().get_type_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Convert" and node.input_value(0).get_node().get_type_name() != "Constant"
    ]
    # What each branch is given, once, and what it gives to its sum.
    assert sorted(computed) == ["MatMul", "Parameter", "Relu", "Reshape"]


def test_values_are_close_on_any_size(tokens):
    exact = openvino.compile_model(
        openvino.Model([block(tokens)], [tokens], "network"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    again = operations.parameter([-1, -1, WIDTH], np.float32, name="tokens")
    model, _ = changed([block(again)], [again])
    halved = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for shape in ((1, 5, WIDTH), (3, 11, WIDTH)):
        given = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        expected, found = exact([given])[0], halved([given])[0]
        assert found.dtype == np.float32
        assert 1e-6 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_a_sum_of_two_products_is_float32(tokens):
    products = [operations.matmul(tokens, weights(WIDTH), False, False) for _ in range(2)]
    model, _ = changed([operations.add(*products)], [tokens])
    assert kinds(model)["Add"] == [Type.f32]


def test_an_output_of_a_branch_is_float32_and_others_are_unchanged(tokens):
    product = operations.matmul(tokens, weights(WIDTH), False, False)
    parts = operations.split(product, operations.constant(np.int64(2)), 2)
    model, _ = changed([parts.output(1), parts.output(0)], [tokens])
    assert [output.get_element_type() for output in model.outputs] == [Type.f32] * 2
    given = np.ones((1, 2, WIDTH), np.float32)
    second, first = openvino.compile_model(model, "CPU")([given]).values()
    expected = given @ np.random.default_rng(WIDTH).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    np.testing.assert_allclose(np.concatenate([first, second], -1), expected, atol=0.05)


def test_networks_of_convolutions_are_not_changed():
    photos = operations.parameter([-1, 3, -1, -1], np.float32, name="photos")
    filters = operations.constant(np.ones((4, 3, 1, 1), np.float32))
    maps = operations.convolution(photos, filters, [1, 1], [0, 0], [0, 0], [1, 1])
    model, is_one = changed([operations.matmul(maps, maps, False, True)], [photos])
    assert not is_one
    assert set(kinds(model)["MatMul"]) == {Type.f32}
