"""The tests of a collection with a real Milvus server, and its SCANN index: `make test-milvus`.

$MILVUS_SERVER is the script that starts one: of PyPI's `milvus`, in an environment of its own.
"""

import os
import signal
import socket
import subprocess
import time

import pytest

from export.indexes.index import index
from export.indexes.open_index import open_index
from export.milvus_index.address import parse_address
from tests.export.milvus_index.test_milvus_index import (  # noqa: F401
    made,
    place,
    test_a_collection_is_replaced_on_demand_and_as_a_whole,
    test_it_finds_what_a_folder_finds,
    test_milvus_gives_a_query_so_many_neighbours_at_most,
    test_photos_are_added_replaced_and_deleted_by_any_name,
    test_search_describes_queries_as_the_collection_was_made,
    test_searches_are_filtered_by_names_and_columns,
    test_what_abandoned_writers_left_is_dropped_after_a_day,
    test_what_does_not_fit_is_refused_and_changes_nothing,
    test_what_is_no_index_is_told,
)
from tests.helpers.small_index import clustered_rows, nearest, numbers, recall

pytestmark = pytest.mark.milvus_server
STARTS = 180  # seconds


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The first part of addresses on a server that runs during these tests."""
    script = os.environ.get("MILVUS_SERVER")
    if not script:
        pytest.skip("no Milvus server: make test-milvus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [script, "--data", str(tmp_path_factory.mktemp("server")), "--proxy-port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            _wait(f"milvus://127.0.0.1:{port}/x")
            yield f"milvus://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(there):
    deadline = time.monotonic() + STARTS
    while True:
        try:
            return parse_address(there).connect()
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def test_scann_in_milvus_finds_what_was_asked_as_the_folder_does(tmp_path, place):  # noqa: F811
    rows, queries = clustered_rows(21_000, clusters=1000), clustered_rows(100, clusters=1000, seed=1)
    collection = made(tmp_path, place, rows)
    how = collection.facts["configuration"]
    assert how["kind"].startswith("SCANN")
    assert how["leaves_to_search"] < how["leaves"] == 290
    assert how["recall"] >= 0.95 - 0.01
    folder = open_index(index(tmp_path / "descriptors", tmp_path / "index"))
    for opened in (collection, folder):
        assert recall(opened.search(queries), rows, queries, 10) > 0.9
        assert numbers(opened.search(queries[:20], exact=True)) == nearest(rows, queries[:20], 10).tolist()
    for hits in collection.search(queries[:2], 16_000):
        assert len({*hits.names}) == 16_000
    collection.add(["new.jpg"], queries[:1])
    assert collection.search(queries[:1], 1)[0].names == ["new.jpg"]
    assert collection.delete(["new.jpg"]) == 1
    assert collection.search(queries[:1], 1)[0].names != ["new.jpg"]
