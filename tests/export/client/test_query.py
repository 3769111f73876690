"""Neighbours from a server: `RetrievalClient.search` and the step `query`, against a running server."""

import numpy as np
import pytest

from export.client.query import query
from export.client.retrieval_client import RetrievalClient
from export.contract.signatures import BAD_BOX, DAMAGED, REASONS
from tests.helpers.search_service import STREET


@pytest.fixture
def client(search_server):
    with RetrievalClient(f"localhost:{search_server.client.port}", model="small", batch=2) as found:
        yield found


@pytest.fixture
def photos(search_service):
    return [search_service.photos / name for name in ("000.png", STREET, "005.png", "002.png", "001.png")]


def test_neighbours_are_in_the_order_of_photos_whatever_the_batch(client, search_service, photos):
    rows = [search_service.names.index(path.relative_to(search_service.photos).as_posix()) for path in photos]
    found = client.search([photos[0].read_bytes(), *photos[1:]], k=3)
    assert len(found) == 5
    for row, hits in zip(rows, found, strict=True):
        assert hits.names[0] == search_service.names[row]
        assert len(hits.names) == len(hits.scores) == 3
        scores = search_service.rows @ search_service.rows[row]
        np.testing.assert_allclose(hits.scores, np.sort(scores)[::-1][:3], atol=2e-4)
        np.testing.assert_allclose(hits.scores, [scores[search_service.names.index(n)] for n in hits.names], atol=2e-4)
    assert [len(hits.names) for hits in client.search(photos, k=100)] == [10] * 5
    assert client.search([]) == []


def test_boxes_go_with_their_photos(client, photos):
    whole = client.search(photos, k=4)
    boxes = [None, (5, 5, 60, 50), None, None, (0, 0, 20, 20)]
    found = client.search(photos, 4, boxes)
    for hits, other, box in zip(found, whole, boxes, strict=True):
        assert (hits.names, hits.scores.tolist()) == (other.names, other.scores.tolist()) or box is not None
    assert not np.allclose(found[1].scores, whole[1].scores)
    with pytest.raises(ValueError, match="boxes must contain one box or None for each of 5 photos, got 1"):
        client.search(photos, 4, [None])


def test_neighbours_are_filtered(client, photos, search_server, capsys):
    names = [hits.names for hits in client.search(photos, 10)]
    for where in ("photo != 000.png", ["photo != 000.png", "photo not in a, b"]):
        found = client.search(photos, 10, where=where)
        assert [hits.names for hits in found] == [[name for name in some if name != "000.png"] for some in names]
    with pytest.raises(ValueError, match=r"INVALID_ARGUMENT\): where: the index has no column 'city'"):
        client.search(photos, where="city = Rome")
    (hits,) = query(
        photos[:1], server=f"localhost:{search_server.client.port}", model="small", where=["photo in 001.png, 002.png"]
    )
    assert sorted(hits.names) == ["001.png", "002.png"]


def test_a_photo_or_box_that_cannot_be_searched_is_named(client, photos, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(photos[0].read_bytes()[:90])
    with pytest.raises(ValueError, match=f"broken.png: {REASONS[DAMAGED][:10]}"):
        client.search([*photos, broken])
    with pytest.raises(ValueError, match=f"001.png: {REASONS[BAD_BOX]}"):
        client.search(photos, 3, [None] * 4 + [(0, 0, 999, 999)])
    with pytest.raises(ValueError, match=r"refuses .* small \(INVALID_ARGUMENT\): k must be one number"):
        client.search(photos, 0)


def test_the_step_prints_scores_and_names(search_server, search_service, photos, capsys):
    server = f"localhost:{search_server.client.port}"
    found = query(photos[:2], server=server, model="small", k=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(photos[0])
    assert lines[3] == str(photos[1])
    assert lines[1:3] == [f"  {score:.4f}  {name}" for name, score in zip(found[0].names, found[0].scores, strict=True)]
    (boxed,) = query(photos[1:2], server=server, model="small", k=2, box="5,5,60,50")
    with RetrievalClient(server, model="small") as client:
        assert boxed.names == client.search(photos[1:2], 2, [(5, 5, 60, 50)])[0].names
    with pytest.raises(ValueError, match="--box must be left,top,right,bottom in pixels of the query photo, got 1,2"):
        query(photos[:1], server=server, model="small", box="1,2")
