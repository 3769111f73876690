"""The HTTP layer of `serve`: its cost, honest clients beside abusive ones, and malformed requests.

    python -m bench.http_load [--part speed|abuse|mutations] [--seconds 60]

speed: photos/s and latency over gRPC and REST, beside direct calls of the same SavedModel, by 1 and 32 clients.

abuse: 32 clients, half of them over REST, send photos while the served version changes 10 times; once alone, and once
beside another process with 200 connections that send a byte of a head every 5 s, 50 connections that have sent half of
a body of 1 MB, each opened again when it is closed, and a gzip bomb (1 GB of zeros) every second. The two take turns.

mutations: HTTP requests and gRPC messages with random changes of bytes, sent to one server.
"""

import argparse
import base64
import gzip
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.photos import network_file
from bench.record import recorded
from bench.serving import (
    BARE,
    NAME,
    Served,
    Turn,
    Way,
    bare_call,
    copied,
    core,
    latency,
    race,
    rate,
    require_same,
    server_process,
)
from export.client.retrieval_client import RetrievalClient
from export.savedmodel.export_saved_model import export_saved_model
from tests.helpers.mutations import mutated

CLIENTS, SWAPS = 32, 10
LORIS, HALF, BOMB_BYTES = 200, 50, 10**9
HALF_BODY = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("speed", "abuse", "mutations"), help="one part; all if not given")
    parser.add_argument("--network", default="alexnet_gem", help="network as BACKBONE_POOLING")
    parser.add_argument("--size", type=int, default=512, help="longest side of the photos in pixels")
    parser.add_argument("--rounds", type=int, default=3, help="times that each method takes its turn")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each of the turns of abuse")
    parser.add_argument("--turns", type=int, default=1, help="turns of abuse, each with and without it")
    parser.add_argument("--requests", type=int, default=10_000, help="mutated requests of each kind")
    parser.add_argument("--attack", help="PORT of a server to abuse until the standard input ends")
    arguments = parser.parse_args()
    if arguments.attack:
        abuse(int(arguments.attack))
        return
    with TemporaryDirectory() as folder:
        work = Path(folder)
        model = network_file(None, arguments.network, work)
        files = copied(None, work / "photos")
        version = export_saved_model(str(model), work / NAME, size=arguments.size)
        if arguments.part in (None, "speed"):
            compare_speed(version, files, arguments.rounds)
        if arguments.part in (None, "abuse"):
            compare_abuse(version, files, arguments.seconds, arguments.turns)
        if arguments.part in (None, "mutations"):
            send_mutations(version, files[0], arguments.requests)


# -- speed


class RestClient:
    """Describes photos over REST, with one connection for each thread."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.partition(":")
        self._port, self._local = int(port), threading.local()

    def describe(self, files: list[bytes]) -> np.ndarray:
        body = json.dumps({"instances": [{"b64": base64.b64encode(file).decode()} for file in files]})
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(self._host, self._port, timeout=120)
        self._local.connection.request("POST", f"/v1/models/{NAME}:predict", body)
        answer = self._local.connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {text[:200]!r}")
        return np.array([row["descriptors"] for row in json.loads(text)["predictions"]], np.float32)


def compare_speed(version: Path, files: list[bytes], rounds: int) -> None:
    """Measures direct calls, gRPC and REST in turns, and records the table."""
    with (
        server_process(version.parent, []) as server,
        RetrievalClient(server.grpc, model=NAME, batch=8, timeout=600) as client,
    ):
        ways = {
            BARE: Way(bare_call(version)),
            "`serve`, gRPC": Way(client.describe, process=server.process),
            "`serve`, REST": Way(RestClient(server.rest).describe, process=server.process),
        }
        require_same(ways, files)
        turns = race(ways, files, rounds, 4)
    with recorded("http-speed") as add:
        for (name, clients), taken in turns.items():
            bare = turns[BARE, clients]
            add(
                {
                    "method": name,
                    "clients": clients,
                    "core ms of server + clients": core(taken),
                    "rate by core ms relative to the bare call": f"{core_ms(bare) / core_ms(taken):.2f}",
                    "rate relative to the bare call": f"{rate(taken) / rate(bare):.2f}",
                    "p50 relative to the bare call": f"{latency(taken, 50) / latency(bare, 50):.2f}",
                }
            )


def core_ms(turns: list[Turn]) -> float:
    """Returns the processor milliseconds per photo of the server and its clients."""
    return 1000 * sum(turn.server + turn.client for turn in turns) / sum(turn.photos for turn in turns)


# -- abuse


def compare_abuse(version: Path, files: list[bytes], seconds: float, turns: int) -> None:
    """Measures honest clients alone and beside abuse, and records the table."""
    base = version.parent
    numbers = count(2)
    with recorded("http-abuse") as add, server_process(base, []) as server:
        for turn in range(turns + 1):
            for abused in (False, True):
                if not turn:
                    honest(server, base, numbers, files, 5.0, abused, 0)  # warms up
                    continue
                took, errors, memory = honest(server, base, numbers, files, seconds, abused, SWAPS)
                print(dict(errors), flush=True)
                add(
                    {
                        "beside": "abuse" if abused else "nothing",
                        "requests": len(took),
                        "errors": sum(errors.values()),
                        "p50, ms": f"{1000 * np.percentile(took, 50):.0f}",
                        "p99, ms": f"{1000 * np.percentile(took, 99):.0f}",
                        "largest memory of the server, MB": f"{memory:.0f}",
                    }
                )


def honest(
    server: Served, base: Path, numbers: Iterator[int], files: list[bytes], seconds: float, abused: bool, most: int
) -> tuple[list[float], Counter[str], float]:
    """Sends photos with CLIENTS threads during `most` changes of the version.

    Returns:
        The seconds of each request, the errors by their text, and the largest resident memory of the server in MB.
    """
    took: list[float] = []
    errors: Counter[str] = Counter()
    rest = RestClient(server.rest)
    with (
        attack(server) if abused else _nothing(),
        RetrievalClient(server.grpc, model=NAME, retries=0, timeout=120) as client,
    ):
        end = time.monotonic() + seconds  # after the start of the abuse, which takes a while
        ways: list[Callable[[list[bytes]], Any]] = [client.describe, rest.describe]

        def send(number: int) -> None:
            for place in count(number):
                if time.monotonic() > end:
                    return
                started = time.monotonic()
                try:
                    ways[number % 2]([files[place % len(files)]])
                except Exception as error:
                    errors[f"{type(error).__name__}: {error}"[:200]] += 1
                else:
                    took.append(time.monotonic() - started)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        memory, swaps = 0.0, 0
        while any(thread.is_alive() for thread in threads):
            if time.monotonic() > end - seconds * (1 - (swaps + 0.5) / SWAPS) and swaps < most:
                swap(base, next(numbers))
                swaps += 1
            memory = max(memory, resident(server.process))
            time.sleep(0.25)
    return took, errors, memory


def swap(base: Path, number: int) -> None:
    """Adds a version, to which the server changes."""
    shutil.copytree(base / str(number - 1), base / "new", copy_function=os.link)
    (base / "new").rename(base / str(number))


def resident(process: int) -> float:
    """Returns the resident memory of a process in MB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def attack(server: Served) -> Iterator[None]:
    """Abuses a server from another process."""
    command = [sys.executable, "-m", "bench.http_load", "--attack", server.rest.rpartition(":")[2]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        yield
        process.stdin.close()
        print(process.stdout.readline(), end="", flush=True)


def abuse(port: int) -> None:
    """Abuses a server until the standard input is closed; prints a line when it begins, and how often each was done."""
    done: Counter[str] = Counter()
    body = gzip.compress(b"\0" * BOMB_BYTES, 9)
    head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: localhost\r\n"
    bomb = f"{head}Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    half = f"{head}Content-Length: {HALF_BODY}\r\n\r\n".encode() + b"a" * (HALF_BODY // 2)

    def slow(first: bytes, name: str) -> None:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
                done[name] += 1
                connection.sendall(first)
                connection.settimeout(5)
                while True:
                    with suppress(TimeoutError):
                        if not connection.recv(1000):
                            break
                    connection.sendall(b"a")
            time.sleep(0.1)

    def bombs() -> None:
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(bomb)
                done[f"bombs answered with {connection.recv(12).decode()[9:]}"] += 1
            time.sleep(1)

    jobs = (
        [(bombs, ())]
        + [(slow, (f"{head}X-Slow: ".encode(), "slow heads"))] * LORIS
        + [(slow, (half, "half bodies"))] * HALF
    )
    for job, words in jobs:
        threading.Thread(target=job, args=words, daemon=True).start()
    print("begun", flush=True)
    sys.stdin.read()
    print(dict(done), flush=True)


# -- mutations


def send_mutations(version: Path, photo: bytes, requests: int) -> None:
    """Sends mutated requests over HTTP and gRPC, and records how they were answered."""
    log = version.parent.parent / "server.log"
    with (
        recorded("http-mutations") as add,
        log.open("w") as output,
        _logged(output),
        server_process(version.parent, []) as server,
    ):
        for name, send in (("HTTP requests", send_http), ("gRPC messages", send_grpc)):
            send(server, photo, requests // 5, 0)
            memory = [resident(server.process)]
            answers = Counter[str]()
            for seed in (1, 2):
                answers += send(server, photo, requests // 2, seed)
                memory.append(resident(server.process))
            RestClient(server.rest).describe([photo])
            add(
                {
                    "mutated": name,
                    "number": requests,
                    "answers": ", ".join(f"{answer} {number:,}" for answer, number in answers.most_common()),
                    "tracebacks in the log": log.read_text().count("Traceback"),
                    "memory of the server before, at half, after, MB": ", ".join(f"{size:.0f}" for size in memory),
                }
            )
    print(log.read_text()[-3000:])


@contextmanager
def _logged(output: Any) -> Iterator[None]:
    """Redirects the standard error of this process, and so that of its children, to a file."""
    kept = os.dup(2)
    os.dup2(output.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


ODD = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b" ", b":", b"%00", b"?", b"/../", b"HTTP/1.0", b"\xff\xfe", b"-1",
    b"9" * 5000, b"{", b"[", b"]", b'"', b"1e999", b"NaN", b"null", b"\\u0000", b"b64",
    b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked",
    b"\r\nExpect: 100-continue", b"\r\nContent-Encoding: gzip", b"\r\nHost: b", b"[" * 2000, b"a" * 70_000,
)  # fmt: skip


def changed_values(chance: random.Random, data: bytes) -> bytes:
    """Returns bytes of the same length with one or two changes, so that most of a message can still be parsed."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 2)):
        changed[min(chance.randrange(len(data)), chance.randrange(len(data)))] = chance.randrange(256)
    return bytes(changed)


def sound_requests(photo: bytes) -> list[bytes]:
    """Requests of all kinds, as bytes."""
    host, body = b" HTTP/1.1\r\nHost: localhost\r\n", base64.b64encode(photo[:3000])
    bodies = [
        b'{"instances": [{"b64": "' + body + b'"}]}',
        b'{"signature_name": "serving_default", "inputs": {"image_bytes": [{"b64": "' + body + b'"}]}}',
        b'{"signature_name": "images", "instances": [[[[0.5, 1, 2e1], [1, 2, 3]], [[1, 2, 3], [1, 2, 3]]]]}',
        b'{"examples": [{"a": 1, "b": ["x", {"b64": "aGk="}]}]}',
    ]
    path = f"/v1/models/{NAME}".encode()
    posts = [
        b"POST " + path + verb + host + more + b"Content-Length: %d\r\n\r\n" % len(text) + text
        for text in bodies
        for verb in (b":predict", b"/versions/1:predict", b":classify", b":regress")
        for more in (b"", b"Connection: close\r\n")
    ]
    zipped = gzip.compress(bodies[0])
    posts.append(
        b"POST "
        + path
        + b":predict"
        + host
        + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped)
        + zipped
    )
    posts.append(
        b"POST "
        + path
        + b":predict"
        + host
        + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(bodies[0])
        + bodies[0]
        + b"\r\n0\r\n\r\n"
    )
    gets = [
        b"GET " + place + host + b"\r\n"
        for place in (
            path,
            path + b"/metadata",
            path + b"/versions/1",
            path + b"/labels/x",
            b"/monitoring/prometheus/metrics",
            b"/healthz",
        )
    ]
    return posts + gets * 2


def send_http(server: Served, photo: bytes, requests: int, seed: int) -> Counter[str]:
    chance, sound, answers = random.Random(seed), sound_requests(photo), Counter[str]()
    port = int(server.rest.rpartition(":")[2])
    for number in range(requests):
        received = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 60) as connection:
            with suppress(OSError):
                connection.sendall(mutated(chance, sound[number % len(sound)], ODD))
                connection.shutdown(socket.SHUT_WR)
            received = connection.recv(12)
            while connection.recv(65536):
                pass
        answers[received[9:].decode("latin-1") or "closed"] += 1
    return answers


def send_grpc(server: Served, photo: bytes, requests: int, seed: int) -> Counter[str]:
    import grpc
    from google.protobuf import text_format
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        predict_pb2,
        regression_pb2,
    )

    chance, answers = random.Random(seed), Counter[str]()
    predict = predict_pb2.PredictRequest()
    predict.model_spec.name = NAME
    predict.inputs["image_bytes"].dtype = 7
    predict.inputs["image_bytes"].tensor_shape.dim.add(size=1)
    predict.inputs["image_bytes"].string_val.append(photo[:3000])
    images = predict_pb2.PredictRequest()
    text_format.Parse(
        f'model_spec {{ name: "{NAME}" signature_name: "images" }} inputs {{ key: "images" value {{ dtype: 1 '
        "tensor_shape { dim { size: 1 } dim { size: 40 } dim { size: 40 } dim { size: 3 } } float_val: 0.5 } }",
        images,
    )
    facts = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    classify = classification_pb2.ClassificationRequest()
    feature = classify.input.example_list.examples.add().features.feature["image_bytes"]
    feature.bytes_list.value.append(photo[:3000])
    regress = regression_pb2.RegressionRequest(input=classify.input)
    several = inference_pb2.MultiInferenceRequest(input=classify.input)
    status = get_model_status_pb2.GetModelStatusRequest()
    task = several.tasks.add(method_name="tensorflow/serving/classify")
    for spec in (facts, classify, regress, status, task):
        spec.model_spec.name = NAME
    service, models = "/tensorflow.serving.PredictionService/", "/tensorflow.serving.ModelService/"
    sound = [
        (name, message.SerializeToString())
        for name, message in (
            (f"{service}Predict", predict),
            (f"{service}Predict", images),
            (f"{service}Classify", classify),
            (f"{service}Regress", regress),
            (f"{service}MultiInference", several),
            (f"{service}GetModelMetadata", facts),
            (f"{models}GetModelStatus", status),
        )
    ]
    with grpc.insecure_channel(server.grpc) as channel:
        for number in range(requests):
            method, message = sound[number % len(sound)]
            call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
            try:
                changed = chance.random() < 0.8
                call(changed_values(chance, message) if changed else mutated(chance, message, ODD), timeout=60)
                answers["OK"] += 1
            except grpc.RpcError as error:
                answers[error.code().name] += 1
    return answers


if __name__ == "__main__":
    main()
