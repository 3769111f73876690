"""Boxes of the best crops in the answers of the signature `search`, and in what the client reads of them."""

import numpy as np
import pytest

from export.client.messages import split_hits
from export.index_contract.contract import Hits
from export.server.search_signature import output_tensors, search_signature

pytest.importorskip("tensorflow_serving")

BOXES = np.array([[0, 0, 9, 9], [1, 2, 3, 4]], np.float32)


def test_boxes_are_in_the_rows_of_their_neighbours():
    hits = [Hits(["a", "b"], np.array([2, 1], np.float32), BOXES), None, Hits(["c"], np.ones(1), BOXES[1:])]
    found = output_tensors(hits, np.array([2, 2, 2]), np.zeros(3, np.int32))
    assert found["hit_boxes"].tolist() == [BOXES.tolist(), [[0] * 4] * 2, [[1, 2, 3, 4], [0] * 4]]
    names = [name.decode() for name in found["names"].ravel()]
    first, none, last = split_hits(names, found["scores"], {"boxes": found["hit_boxes"]})
    assert (first.names, none.names, last.names) == (["a", "b"], [], ["c"])
    assert (first.boxes.tolist(), last.boxes.tolist()) == (BOXES.tolist(), [[1, 2, 3, 4]])
    assert split_hits(names, found["scores"])[0].boxes is None


def test_only_an_index_with_crops_has_the_output():
    assert "hit_boxes" not in search_signature().outputs
    output = search_signature(crops=True).outputs["hit_boxes"]
    assert [dimension.size for dimension in output.tensor_shape.dim] == [-1, -1, 4]
