"""The client's messages are those of tensorflow-serving-api on the wire, and need no TensorFlow."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.client.messages import photo_request, read_numbers, read_strings, write_numbers
from export.client.predict_messages import METHOD, predict_messages

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def published():
    """The messages of tensorflow-serving-api."""
    return pytest.importorskip("tensorflow_serving.apis.predict_pb2")


def same_fields(ours, theirs, seen):
    """Compares two descriptors of messages, and those of their fields."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    known = theirs.fields_by_name
    for field in ours.fields:
        other = known[field.name]
        kinds = {field.cpp_type, other.cpp_type}
        assert field.number == other.number
        assert field.is_repeated == other.is_repeated
        assert kinds in ({field.cpp_type}, {field.CPPTYPE_INT32, field.CPPTYPE_ENUM})
        assert field.is_packed == other.is_packed
        if field.message_type is None:
            assert field.type == other.type or field.name == "dtype"
        else:
            assert field.message_type.GetOptions().map_entry == other.message_type.GetOptions().map_entry
            same_fields(field.message_type, other.message_type, seen)


def test_numbers_and_types_of_all_fields_are_the_published_ones(published):
    ours, seen = predict_messages(), set()
    same_fields(ours.request.DESCRIPTOR, published.PredictRequest.DESCRIPTOR, seen)
    same_fields(ours.response.DESCRIPTOR, published.PredictResponse.DESCRIPTOR, seen)
    assert len(seen) == 9, "two messages, two entries of maps, and those within"


def test_the_method_is_the_published_one():
    grpc_module = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")

    class Channel:
        def unary_unary(self, method, **_):
            called.append(method)

    called = []
    grpc_module.PredictionServiceStub(Channel())
    assert METHOD in called


def test_a_request_has_the_same_bytes(published):
    request = photo_request("street", 3, "search", [b"\xff\xd8", b""], ["names", "scores"])
    write_numbers(request.inputs["k"], "int", np.array(10))
    write_numbers(request.inputs["boxes"], "float", np.array([[0, 1.5, 2, -3], [0, 0, 0, 0]], np.float32))
    data = request.SerializeToString(deterministic=True)
    read = published.PredictRequest.FromString(data)
    assert read.SerializeToString(deterministic=True) == data
    assert (read.model_spec.name, read.model_spec.version.value) == ("street", 3)
    assert read.model_spec.signature_name == "search"
    assert list(read.output_filter) == ["names", "scores"]
    assert list(read.inputs["image_bytes"].string_val) == [b"\xff\xd8", b""]
    tf = pytest.importorskip("tensorflow")
    assert tf.make_ndarray(read.inputs["k"]) == 10
    np.testing.assert_array_equal(tf.make_ndarray(read.inputs["boxes"]), [[0, 1.5, 2, -3], [0, 0, 0, 0]])


def test_an_answer_is_read_with_fields_that_the_table_does_not_have(published):
    tf = pytest.importorskip("tensorflow")
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    answer = published.PredictResponse()
    answer.model_spec.name, answer.model_spec.version_label = "street", "stable"
    answer.outputs["descriptors"].CopyFrom(tf.make_tensor_proto(rows))  # fills tensor_content
    answer.outputs["names"].CopyFrom(tf.make_tensor_proto(["a.jpg", "é.jpg"]))
    answer.outputs["status"].CopyFrom(tf.make_tensor_proto(np.array([0, 1], np.int32)))
    answer.outputs["other"].CopyFrom(tf.make_tensor_proto(np.array([1, 2], np.int64)))
    answer.outputs["other"].int64_val.append(7)
    data = answer.SerializeToString(deterministic=True)
    read = predict_messages().response.FromString(data)
    np.testing.assert_array_equal(read_numbers(read.outputs["descriptors"], "float"), rows)
    np.testing.assert_array_equal(read_numbers(read.outputs["status"], "int"), [0, 1])
    assert read_strings(read.outputs["names"]) == ["a.jpg", "é.jpg"]
    assert published.PredictResponse.FromString(read.SerializeToString()) == answer


def test_the_client_needs_no_tensorflow():
    """In a process of its own, in which TensorFlow and its packages cannot be imported."""
    code = """
import sys
for name in ("tensorflow", "tensorflow_serving", "scipy", "pandas", "h5py"):
    sys.modules[name] = None
from export.client.query import query
from export.client.retrieval_client import RetrievalClient
from keras_retrieval.errors import RetrievalError
with RetrievalClient("localhost:1", retries=0) as client:
    for ask in (client.describe, client.search):
        try:
            ask([b"photo"])
        except RetrievalError as error:
            assert "is not available" in str(error), error
        else:
            raise AssertionError("no server answers there")
assert "keras" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
