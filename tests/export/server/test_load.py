"""Batches, deadlines, limits and shutdown: a server under more load than it can process."""

import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from export.server.batching import Batcher
from export.server.batching_parameters import BatchingParameters
from export.server.errors import Code, ServingError
from export.server.limits import ComputeSlots, Deadline, RequestLimit
from export.server.servable import Servable
from tests.helpers.deadlines import first_line, results, wait_until
from tests.helpers.serving_models import Client, predict_request, save_toy, serving, tensor

X = {"x": np.ones((1, 2), np.float32)}
LONG = 1500  # turns of spin that take some tenths of a second


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("serving") / "toy"
    save_toy(base / "1")
    return base


@pytest.fixture
def runs(monkeypatch):
    """The feeds of every computation, in order."""
    seen = []
    run = Servable.run
    monkeypatch.setattr(
        Servable, "run", lambda self, feeds, fetches, call: seen.append(feeds) or run(self, feeds, fetches, call)
    )
    return seen


@pytest.fixture
def gate(monkeypatch, runs):
    """Computations begin, but end only when the gate is set."""
    gate, run = threading.Event(), Servable.run

    def held(self, feeds, fetches, call):
        answer = run(self, feeds, fetches, call)
        assert gate.wait(60)
        return answer

    monkeypatch.setattr(Servable, "run", held)
    yield gate
    gate.set()


def spin(client, turns=LONG, seconds=60.0):
    return client.predict({"n": np.int32([turns])}, signature="spin", seconds=seconds)


def code_of(ask):
    """The name of a request's status code."""
    try:
        ask()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def at_once(count, ask):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def patient(rows):
    """Batches that start when they are full, however long a busy machine takes to send the requests."""
    return BatchingParameters(max_batch_size=rows, batch_timeout_micros=30_000_000, num_batch_threads=2)


def test_requests_of_one_shape_are_merged(base, runs):
    with serving({"toy": base}, batching=patient(8)) as client:
        found = at_once(8, lambda n: client.predict({"x": np.full((1, 2), n, np.float32)})["y"])
    assert [y.tolist() for y in found] == [[[2 * n, 2 * n]] for n in range(8)]
    (feeds,) = runs
    assert [array.shape for array in feeds.values()] == [(8, 2)]


def test_requests_of_other_shapes_and_signatures_are_not(base, runs):
    with serving({"toy": base}, batching=patient(2)) as client:
        asked = [
            {"x": np.ones((1, 2), np.float32)},
            {"x": np.ones((1, 3), np.float32)},
            {"t": np.array([b"a"], object)},
        ]
        found = at_once(6, lambda n: client.predict(asked[n % 3], signature="text" if n % 3 == 2 else ""))
    assert [sorted(answer) for answer in found] == [["y"], ["y"], ["doubled_bytes", "length"]] * 2
    assert [found[n]["y"].shape for n in (0, 1)] == [(1, 2), (1, 3)]
    assert sorted(len(next(iter(feeds.values()))) for feeds in runs) == [2, 2, 2]


def test_batches_are_padded_to_allowed_sizes(base, runs):
    parameters = BatchingParameters(8, 100_000, 4, 1, (4, 8))
    with serving({"toy": base}, batching=parameters) as client:
        assert client.predict({"x": np.float32([[1, 2], [3, 4], [5, 6]])})["y"].tolist() == [[2, 4], [6, 8], [10, 12]]
    assert [len(array) for feeds in runs for array in feeds.values()] == [4]


def test_variable_lengths_are_padded_if_asked(base, runs):
    parameters = BatchingParameters(2, 2_000_000, 4, 1, (), True)
    with serving({"toy": base}, batching=parameters) as client:
        found = at_once(2, lambda n: client.predict({"x": np.full((1, 2 + n), n + 1, np.float32)})["y"].tolist())
    assert found == [[[2, 2, 2]], [[4, 4, 4]]]
    assert len(runs) == 1


def test_what_is_wrong_with_one_request_is_not_the_fault_of_others(base, monkeypatch):
    with serving({"toy": base}, batching=BatchingParameters(4, 300_000, 4, 1)) as client:
        run = Servable.run

        def fail_on_four(self, feeds, fetches, call):
            if any(4 in array for array in feeds.values()):
                raise ServingError(Code.INVALID_ARGUMENT, "four")
            return run(self, feeds, fetches, call)

        monkeypatch.setattr(Servable, "run", fail_on_four)
        found = at_once(4, lambda n: code_of(lambda: client.predict({"x": np.full((1, 2), n + 2, np.float32)})))
        assert found == ["OK", "OK", "INVALID_ARGUMENT", "OK"]
        wrong = {"a": np.ones(2, np.float32), "b": np.ones(3, np.int64)}
        with pytest.raises(grpc.RpcError, match="must have equal 0th-dimension size"):
            client.predict(wrong, signature="pair")
        with pytest.raises(grpc.RpcError, match="Task size 5 is larger than maximum input batch size 4"):
            client.predict({"x": np.ones((5, 2), np.float32)})


def test_a_full_queue_is_unavailable(base, runs, gate):
    parameters = BatchingParameters(max_batch_size=1, max_enqueued_batches=2, num_batch_threads=1)
    with serving({"toy": base}, batching=parameters) as client, ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(code_of, lambda: client.predict(X))]
        wait_until(lambda: len(runs) == 1, "the first computation has begun")
        asked += [pool.submit(code_of, lambda: client.predict(X)) for _ in range(11)]
        wait_until(lambda: sum(future.done() for future in asked) == 9, "what the queue cannot hold is refused")
        full = "The batch scheduling queue to which this task was submitted is full"
        body = {"instances": [[1, 2]]}
        assert client.rest("POST", "/v1/models/toy:predict", body) == (503, {"error": full})
        gate.set()
        assert sorted(results(asked)) == ["OK"] * 3 + ["UNAVAILABLE"] * 9
        assert client.predict(X)["y"].tolist() == [[2, 2]]


@pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=1, num_batch_threads=2)])
def test_expired_requests_are_not_computed(base, runs, gate, monkeypatch, batching):
    monkeypatch.setattr("export.server.server.COMPUTATIONS", 2)
    with serving({"toy": base}, batching=batching) as client, ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(code_of, lambda: client.predict(X)) for _ in range(2)]
        wait_until(lambda: len(runs) == 2, "both computations have begun")
        codes = at_once(6, lambda _: code_of(lambda: client.predict(X, seconds=0.1)))
        assert codes == ["DEADLINE_EXCEEDED"] * 6
        gate.set()
        assert results(busy) == ["OK"] * 2
        assert client.server.core.in_flight.drained(5)
        assert len(runs) == 2
        assert client.predict(X)["y"].tolist() == [[2, 2]]


@pytest.mark.parametrize("batching", [None, BatchingParameters(max_batch_size=1, num_batch_threads=2)])
def test_cancelled_requests_are_not_computed(base, runs, gate, monkeypatch, batching):
    monkeypatch.setattr("export.server.server.COMPUTATIONS", 2)
    deadlines, init = [], Deadline.__init__
    monkeypatch.setattr(Deadline, "__init__", lambda self, *args: init(self, *args) or deadlines.append(self))
    with serving({"toy": base}, batching=batching) as client, ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(code_of, lambda: client.predict(X)) for _ in range(2)]
        wait_until(lambda: len(runs) == 2, "both computations have begun")
        waiting = client.prediction.Predict.future(predict_request(X), timeout=60)
        wait_until(lambda: client.server.core.in_flight.count == 3, "the third request has arrived")
        waiting.cancel()
        wait_until(lambda: not all(deadline.active() for deadline in deadlines), "the server has seen that")
        gate.set()
        assert results(busy) == ["OK"] * 2
        assert client.server.core.in_flight.drained(5)
        assert len(runs) == 2


def test_a_deadline_ends_a_computation(base):
    with serving({"toy": base}, rest_seconds=0.3) as client:
        started = time.monotonic()
        assert code_of(lambda: spin(client, 10**7, seconds=0.3)) == "DEADLINE_EXCEEDED"
        body = {"signature_name": "spin", "instances": [10**7]}
        status, answer = client.rest("POST", "/v1/models/toy:predict", body)
        assert (status, answer) == (504, {"error": "Timed out waiting for notification"})
        assert client.server.core.in_flight.drained(5)
        assert time.monotonic() - started < 10


def test_ten_times_the_load_is_refused_and_recovered_from(base):
    with serving({"toy": base}, max_in_flight=8) as client:
        spin(client)
        before = peak_memory()
        codes = at_once(80, lambda _: code_of(lambda: spin(client)))
        ended = time.monotonic()
        assert client.predict(X)["y"].tolist() == [[2, 2]]
        assert time.monotonic() - ended < 5
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        assert codes.count("OK") >= 8
        assert peak_memory() - before < 200e6
        assert client.states("toy") == {1: 30}


def test_health_and_status_are_told_while_the_house_is_full(base, gate):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with serving({"toy": base}, max_in_flight=2) as client, ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(client.predict, X) for _ in range(2)]
        wait_until(lambda: client.server.core.in_flight.count == 2, "both requests have arrived")
        assert code_of(lambda: client.predict(X)) == "RESOURCE_EXHAUSTED"
        check = health_pb2_grpc.HealthStub(client.channel).Check
        assert check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
        assert client.states("toy") == {1: 30}
        gate.set()
        results(busy)


CLAIMS = [
    "dtype: DT_FLOAT tensor_shape { dim { size: 1099511627776 } } float_val: 1",
    "dtype: DT_FLOAT tensor_shape { dim { size: 134217728 } } float_val: 1",
    "dtype: DT_FLOAT tensor_shape { dim { size: 1048576 } dim { size: 1048576 } }",
    "dtype: DT_STRING tensor_shape { dim { size: 1099511627776 } } string_val: 'a'",
    "dtype: DT_STRING tensor_shape { dim { size: 1099511627776 } } tensor_content: 'a'",
    "dtype: DT_INT8 tensor_shape { dim { size: 9223372036854775807 } dim { size: 2 } } int_val: 1",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_tensor_that_claims_more_than_it_has(base, claim):
    with serving({"toy": base}) as client:
        client.predict(X)
        before = peak_memory()
        with pytest.raises(grpc.RpcError, match="tensor parsing error: x") as caught:
            client.predict({"x": tensor(claim)})
        assert caught.value.code().name == "INVALID_ARGUMENT"
        assert peak_memory() - before < 50e6


def test_a_message_over_the_limit(base):
    with serving({"toy": base}, max_message_bytes=2**20) as client:
        client.predict(X)
        message = predict_request({"x": np.ones((2**18, 2), np.float32)})
        before = peak_memory()
        with pytest.raises(grpc.RpcError, match="larger than max") as caught:
            client.prediction.Predict(message, timeout=20)
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        status, answer = client.rest("POST", "/v1/models/toy:predict", b"[" * (2**20 + 1))
        assert (status, answer) == (413, {"error": "The body is larger than 1048576 bytes"})
        assert peak_memory() - before < 50e6
        assert client.predict(X)["y"].tolist() == [[2, 2]]


def peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_turns_are_bounded_and_end_with_the_deadline():
    slots, most, inside, lock = ComputeSlots(2), 0, 0, threading.Lock()

    def work(_):
        nonlocal most, inside
        with slots.slot(Deadline()):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    at_once(10, work)
    assert most == 2
    with slots.slot(Deadline()), slots.slot(Deadline()):
        for call, message in ((Deadline(0.05), "Timed out"), (Deadline(0.0), "Timed out")):
            with pytest.raises(ServingError, match=message), slots.slot(call):
                pass
    with pytest.raises(ServingError, match="cancelled"), slots.slot(Deadline(active=lambda: False)):
        pass
    with slots.slot(Deadline()), slots.slot(Deadline(1e18)):
        pass


def test_in_flight_is_bounded():
    in_flight = RequestLimit(1)
    with in_flight.admitted():
        with pytest.raises(ServingError, match="1 requests are waiting already"), in_flight.admitted():
            pass
        assert not in_flight.drained(0.01)
    assert in_flight.drained(0.01)


BAD_PARAMETERS = [
    ({"max_batch_size": 0}, "max_batch_size must be at least 1, got 0"),
    ({"num_batch_threads": 0}, "num_batch_threads must be at least 1, got 0"),
    ({"batch_timeout_micros": -1}, "batch_timeout_micros must be at least 0, got -1"),
    ({"max_batch_size": 8, "allowed_batch_sizes": (4, 2, 8)}, "must ascend to max_batch_size, 8"),
    ({"max_batch_size": 8, "allowed_batch_sizes": (2, 4)}, "must ascend to max_batch_size, 8"),
]


@pytest.mark.parametrize(("options", "message"), BAD_PARAMETERS)
def test_bad_batching_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        BatchingParameters(**options)


def test_a_batcher_ends_what_waits():
    batcher = Batcher(BatchingParameters(batch_timeout_micros=10**9))

    class Fake:
        acquire = release = staticmethod(lambda: None)

        def releasing(self):
            from contextlib import nullcontext

            return nullcontext()

        def run(self, feeds, fetches, call):
            return [feeds["x"] + 1]

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(batcher, Fake(), {"x": np.zeros(2)}, ["y"], Deadline())
        wait_until(lambda: batcher._waiting, "the request waits for its batch")
        batcher.stop()
        assert future.result(5)[0].tolist() == [1, 1]


@pytest.fixture
def process(base):
    command = [sys.executable, "-m", "keras_retrieval", "serve", str(base), "--port", "0", "--rest-port", "0"]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_sigterm_answers_what_is_in_the_house(process):
    line = first_line(process)
    assert line.startswith("serving toy: gRPC at 127.0.0.1:"), process.stderr.read()
    port, rest_port = (int(part.rpartition(":")[2]) for part in line.strip().split(", "))
    client = Client(port, rest_port)
    client.predict(X)
    body = {"signature_name": "spin", "instances": [4 * LONG]}
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(spin, client, 4 * LONG) for _ in range(4)]
        asked += [pool.submit(client.rest, "POST", "/v1/models/toy:predict", body) for _ in range(4)]
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        answers = results(asked)
    assert all("s" in answer for answer in answers[:4])
    assert [status for status, _ in answers[4:]] == [200] * 4
    assert process.wait(20) == 0
    assert code_of(lambda: Client(port, rest_port).predict(X, seconds=5)) == "UNAVAILABLE"
