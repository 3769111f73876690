"""Readiness: /readyz and gRPC's health service say whether a server should get requests; /healthz that it lives."""

import dataclasses
import http.client
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from export.client.retrieval_client import CHANNEL
from export.http.tokens import Token
from export.indexes.open_index import open_index
from export.server.batching import Batcher
from export.server.batching_parameters import BatchingParameters
from export.server.errors import Code, ServingError
from export.server.limits import ComputeSlots, Deadline
from export.server.metrics import METRICS_PATH, OWN, QUEUE_LENGTH
from export.server.options import ServeOptions, server_settings
from export.server.readiness import Readiness
from keras_retrieval.errors import ArgumentError
from tests.helpers.deadlines import join, wait_until

pytest.importorskip("grpc")


def ask(client, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", client.rest_port, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def own_metrics(client):
    _, page = ask(client, METRICS_PATH)
    return {name: float(value) for name, value in re.findall(r"^(keras_retrieval_\w+) (\S+)$", page, re.MULTILINE)}


def health(client):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    return health_pb2_grpc.HealthStub(client.channel).Check(health_pb2.HealthCheckRequest(), timeout=20).status


class Models:
    def __init__(self, ready=True):
        self.is_ready = ready

    def ready(self):
        return self.is_ready


class Search:
    """An index that a test can silence, and whose network may not be served."""

    def __init__(self, index):
        self.error = self.model_error = None
        self._index = index

    @property
    def index(self):
        if self.error:
            raise self.error
        return self._index

    def model(self, models):
        if self.model_error:
            raise self.model_error
        return "small"


@pytest.fixture
def search(search_service):
    index = open_index(search_service.index)
    yield Search(index)
    index.close()


def test_a_served_index_is_ready_and_its_metrics_are_told(search_server, search_service):
    client = search_server.client
    assert ask(client, "/readyz") == ask(client, "/healthz") == (200, "ok\n")
    assert health(client) == 1
    values = own_metrics(client)
    assert values.keys() == OWN.keys()
    loaded = values.pop("keras_retrieval_index_loaded_timestamp_seconds")
    assert loaded == pytest.approx(search_server.index.state.loaded_at)
    assert values == {
        "keras_retrieval_queue_length": 0,
        "keras_retrieval_requests_in_flight": 0,
        "keras_retrieval_ready": 1,
        "keras_retrieval_index_build": 1,
        "keras_retrieval_index_photos": 10,
        "keras_retrieval_index_outdated": 0,
        "keras_retrieval_index_loads_total": 1,
        "keras_retrieval_index_failures_total": 0,
    }
    _, page = ask(client, METRICS_PATH)
    assert f"# TYPE {QUEUE_LENGTH} gauge\n{QUEUE_LENGTH} 0\n" in page
    assert "# TYPE keras_retrieval_index_loads_total counter\n" in page


def test_a_server_that_ends_is_not_ready_but_alive(search_server, monkeypatch):
    client = search_server.client
    readiness = client.server._readiness
    monkeypatch.setattr(readiness, "_stopping", SimpleNamespace(is_set=lambda: True, wait=lambda seconds: True))
    assert ask(client, "/readyz") == (503, "the server is stopping\n")
    assert ask(client, "/healthz")[0] == 200
    client.server._grpc.update_health()
    assert health(client) == 2
    monkeypatch.undo()
    client.server._grpc.update_health()
    assert health(client) == 1


def test_probes_need_no_name_and_no_token():
    from export.http.guard import Guard
    from export.http.host_names import HostNames
    from export.http.messages import Request

    reasons = iter(["", "the index does not answer"])
    guard = Guard(HostNames("127.0.0.1"), Token("a-secret-of-many-characters"), unready=lambda: next(reasons))
    request = Request("GET", "/readyz", headers={"host": "other.example"})
    assert guard.admit(request) is None
    answers = [guard.answering(lambda request: None)(request) for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, "ok\n"),
        (503, "the index does not answer\n"),
    ]


def test_reasons_name_no_files(search):
    models = Models()
    readiness = Readiness(models, search, seconds=3000)
    assert readiness.reason() == ""
    models.is_ready = False
    assert readiness.reason() == "a model has no version that is loaded"
    models.is_ready, search.model_error = True, ServingError(Code.FAILED_PRECONDITION, "/secret/place")
    assert readiness.reason() == "no model is the network that the index was made with"
    search.model_error = None
    search.error = OSError("/secret/place")
    readiness._look()
    assert readiness.reason() == "the index does not answer"
    search.error = None
    readiness._look()
    assert readiness.metrics()["keras_retrieval_ready"] == 1
    readiness.stopping()
    assert readiness.reason() == "the server is stopping"
    readiness.close()
    assert Readiness(models, None).metrics() == {"keras_retrieval_ready": 1}


def test_a_change_of_readiness_is_told(search, caplog):
    changes = []
    caplog.set_level("INFO")
    readiness = Readiness(Models(), search, lambda: changes.append(readiness.reason()), seconds=0.01)
    search.error = OSError("no route")
    wait_until(lambda: changes == ["the index does not answer"], "the server is not ready")
    search.error = None
    wait_until(lambda: changes == ["the index does not answer", ""], "the server is ready")
    readiness.close()
    assert [text for text in caplog.messages if "ready" in text] == ["not ready: the index does not answer", "ready"]
    assert caplog.text.count("no route") == 1


def test_an_index_with_older_photos_is_ready_and_says_so(search):
    state = dataclasses.replace(search.index.state, problem="rows.npy is missing", failures=3)
    search._index = SimpleNamespace(state=state)
    readiness = Readiness(Models(), search, seconds=3000)
    assert readiness.reason() == ""
    values = readiness.metrics()
    assert (values["keras_retrieval_index_outdated"], values["keras_retrieval_index_failures_total"]) == (1, 3)
    readiness.close()


def test_the_queue_length_counts_what_waits():
    slots = ComputeSlots(1)

    def wait():
        with slots.slot(Deadline(60)):
            pass

    with slots.slot(Deadline(60)):
        assert slots.waiting == 0
        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: slots.waiting == 3, "three wait")
        with pytest.raises(ServingError, match="Timed out"), slots.slot(Deadline(0.001)):
            pass
        assert slots.waiting == 3
    join(threads)
    assert slots.waiting == 0
    batcher = Batcher(BatchingParameters())
    assert batcher.waiting == 0
    batcher.stop()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replica": "2/3"}, "--replica is for the servers of --index"),
        ({"reload_within": 5.0}, "--reload-within is for the servers of --index"),
        ({"index": "i", "replica": "2/3"}, "--replica is a moment in --reload-within"),
        *(
            ({"index": "i", "reload_within": 5.0, "replica": text}, "--replica")
            for text in ("3", "0/3", "4/3", "-1/3", "a/b", "1/3/4", "²/3", "1" * 5000 + "/3", "1/")
        ),
    ],
)
def test_replicas_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        ServeOptions(serving=None, **options).check()


def test_replicas_are_numbered_from_one():
    following = ServeOptions(serving=None, index="i", reload_within=60.0, replica="3/4").following
    assert (following.wait(3600), following.steadfast) == (30, True)
    assert ServeOptions(serving=None, index="i").following.wait(3600) == 0


@pytest.mark.parametrize(("seconds", "expected"), [(0, ()), (120, (("grpc.max_connection_age_ms", 120_000),))])
def test_clients_connect_again_if_they_should(seconds, expected):
    options = ServeOptions(serving=None, reconnect_seconds=float(seconds))
    assert server_settings(options, None).grpc_arguments == expected


class Counting:
    """A gRPC server that answers every call with its number."""

    def __init__(self, number):
        import grpc

        answer = grpc.unary_unary_rpc_method_handler(lambda request, context: bytes([number]))
        self.server = grpc.server(ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("any", {"call": answer}),))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()


def test_the_servers_of_a_name_get_requests_in_turn():
    import grpc

    servers = [Counting(number) for number in (1, 2)]
    address = "ipv4:" + ",".join(f"127.0.0.1:{one.port}" for one in servers)
    with grpc.insecure_channel(address, list(CHANNEL.items())) as channel:
        call = channel.unary_unary("/any/call")
        answers = set()
        wait_until(lambda: answers.add(call(b"", timeout=20, wait_for_ready=True)) or len(answers) == 2, "both answer")
        servers[0].server.stop(None).wait()
        assert {call(b"", timeout=20, wait_for_ready=True) for _ in range(3)} >= {b"\x02"}
    servers[1].server.stop(None).wait()
