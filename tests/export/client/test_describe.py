"""The client: its requests, its reading of answers and errors, TLS, and the embedded server."""

import json
import shutil
import subprocess
import threading
import time
from concurrent import futures

import numpy as np
import pytest

from pipelines.descriptors.extract import extract
from tests.helpers.clock import Clock
from tests.helpers.deadlines import join
from tests.helpers.small import draw_folder, saved_network, shards

pytest.importorskip("tensorflow_serving")

import grpc
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.client import retrieval_client as client_module
from export.client.describe import describe
from export.client.retrieval_client import RetrievalClient
from export.contract.signatures import DAMAGED, OK, REASONS, UNKNOWN_FORMAT

NOT_READY, TOO_LATE, WRONG = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INVALID_ARGUMENT,
)
PHOTOS = [f"photo {number}".encode() for number in range(7)]


def row(data, dimensions=5):
    return np.frombuffer(data.ljust(8, b"."), np.uint8)[-dimensions:].astype("float32") / 255


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Describes a photo by its last bytes, after failing with the next code of `trouble`."""

    def __init__(self):
        self.requests, self.trouble, self.seconds = [], [], 0.0
        self.content = False
        self.dimensions = 5

    def Predict(self, request, context):  # noqa: N802
        self.requests.append(request)
        if self.trouble:
            context.abort(self.trouble.pop(0), "as told")
        if self.seconds:
            time.sleep(self.seconds)
        files = list(request.inputs["image_bytes"].string_val)
        response = predict_pb2.PredictResponse()
        status = [UNKNOWN_FORMAT if data.startswith(b"text") else 99 * data.startswith(b"odd") for data in files]
        rows = [np.resize(row(data), self.dimensions) * (code == OK) for data, code in zip(files, status, strict=True)]
        self.put(response.outputs["descriptors"], np.array(rows, "float32"), types_pb2.DT_FLOAT, "float_val")
        self.put(response.outputs["status"], np.array(status, "int32"), types_pb2.DT_INT32, "int_val")
        return response

    def put(self, tensor, array, dtype, field):
        tensor.dtype = dtype
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        if self.content:
            tensor.tensor_content = array.tobytes()
        else:
            getattr(tensor, field).extend(array.ravel().tolist())


def start(service, credentials=None):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(4), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    add = server.add_insecure_port if credentials is None else lambda a: server.add_secure_port(a, credentials)
    port = add("localhost:0")
    server.start()
    return server, f"localhost:{port}"


@pytest.fixture
def served():
    """A service and its address."""
    service = Service()
    server, address = start(service)
    yield service, address
    server.stop(0)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.005)


def test_rows_are_in_the_order_of_photos_whatever_the_batch(served, tmp_path):
    service, address = served
    paths = [tmp_path / f"{number}.jpg" for number in range(len(PHOTOS))]
    for path, data in zip(paths, PHOTOS, strict=True):
        path.write_bytes(data)
    expected = np.stack([row(data) for data in PHOTOS])
    for batch in (1, 3, 7, 100):
        with RetrievalClient(address, batch=batch) as client:
            for photos in (PHOTOS, paths, [str(path) for path in paths], [*paths[:3], *PHOTOS[3:]]):
                service.requests.clear()
                rows = client.describe(photos)
                assert rows.dtype == np.float32
                np.testing.assert_array_equal(rows, expected)
                sent = [len(request.inputs["image_bytes"].string_val) for request in service.requests]
                assert sent == [min(batch, 7 - start) for start in range(0, 7, batch)]


def test_the_request_names_model_version_signature_and_outputs(served):
    service, address = served
    with RetrievalClient(address, model="street", version=3) as client:
        client.describe(PHOTOS[:2])
    with RetrievalClient(address) as client:
        client.describe(PHOTOS[:2])
    (first, second) = service.requests
    assert (first.model_spec.name, first.model_spec.version.value) == ("street", 3)
    assert (second.model_spec.name, second.model_spec.HasField("version")) == ("retrieval", False)
    assert first.model_spec.signature_name == "serving_default"
    assert list(first.output_filter) == ["descriptors", "status"]
    tensor = first.inputs["image_bytes"]
    assert (tensor.dtype, [side.size for side in tensor.tensor_shape.dim]) == (types_pb2.DT_STRING, [2])


def test_answers_may_be_plain_bytes_too(served):
    service, address = served
    service.content = True
    with RetrievalClient(address) as client:
        np.testing.assert_array_equal(client.describe(PHOTOS), np.stack([row(data) for data in PHOTOS]))


def test_messages_over_four_megabytes_pass_both_ways(served):
    service, address = served
    service.dimensions = 2**20
    large = [bytes(2**22) + data for data in PHOTOS[:2]]
    with RetrievalClient(address) as client:
        rows = client.describe(large)
    assert rows.shape == (2, 2**20)
    assert rows.nbytes > 2**22


def test_an_unreadable_photo_is_named(served, tmp_path):
    _, address = served
    broken = tmp_path / "broken one.jpg"
    broken.write_bytes(b"text, no photo")
    with RetrievalClient(address, batch=2) as client:
        with pytest.raises(ValueError, match=rf"broken one\.jpg: {REASONS[UNKNOWN_FORMAT][:20]}") as caught:
            client.describe([PHOTOS[0], PHOTOS[1], PHOTOS[2], broken])
        assert caught.value.path == str(broken)
        with pytest.raises(ValueError, match="photo 1: the server gives it the status 99"):
            client.describe([PHOTOS[0], b"odd"])
        rows, status = client.describe_readable([PHOTOS[0], broken, PHOTOS[2], b"odd"])
    assert status.tolist() == [OK, UNKNOWN_FORMAT, OK, 99]
    assert status.dtype == np.int32
    np.testing.assert_array_equal(rows, np.stack([row(PHOTOS[0]), np.zeros(5), row(PHOTOS[2]), np.zeros(5)]))


def test_only_a_server_that_is_not_available_is_asked_again(served):
    service, address = served
    with RetrievalClient(address, retries=3) as client:
        service.trouble = [NOT_READY] * 3
        np.testing.assert_array_equal(client.describe(PHOTOS[:1]), [row(PHOTOS[0])])
        assert len(service.requests) == 4
        service.trouble, service.requests = [NOT_READY] * 4, []
        with pytest.raises(ConnectionError, match="is not available after 4 attempts: as told"):
            client.describe(PHOTOS[:1])
        assert len(service.requests) == 4
        for code, error, message in (
            (WRONG, ValueError, r"refuses .* the model retrieval \(INVALID_ARGUMENT\): as told"),
            (grpc.StatusCode.NOT_FOUND, ValueError, "NOT_FOUND"),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, ValueError, "RESOURCE_EXHAUSTED"),
            (TOO_LATE, TimeoutError, "has not answered within 30 s"),
        ):
            service.trouble, service.requests = [code], []
            with pytest.raises(error, match=message):
                client.describe(PHOTOS[:1])
            assert len(service.requests) == 1


def test_waits_double_up_to_a_bound(served, monkeypatch):
    service, address = served
    clock = Clock()
    monkeypatch.setattr(client_module, "time", clock)
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(client_module, "LONGEST_WAIT", 1.5)
    service.trouble = [NOT_READY] * 6
    with RetrievalClient(address, retries=6) as client:
        client.describe(PHOTOS[:1])
    for wait, most in zip(clock.sleeps, (0.1, 0.2, 0.4, 0.8, 1.5, 1.5), strict=True):
        assert most / 2 <= wait <= most


def test_the_deadline_holds_for_all_attempts_together(served, monkeypatch):
    service, address = served
    service.seconds = 5
    started = time.monotonic()
    with RetrievalClient(address, timeout=0.3) as client, pytest.raises(TimeoutError, match=r"within 0\.3 s"):
        client.describe(PHOTOS[:1])
    assert time.monotonic() - started < 2
    monkeypatch.setattr(client_module, "FIRST_WAIT", 0.2)
    service.trouble = [NOT_READY] * 1000
    started = time.monotonic()
    with RetrievalClient(address, timeout=1, retries=1000) as client, pytest.raises(ConnectionError):
        client.describe(PHOTOS[:1])
    assert time.monotonic() - started < 2


def test_a_server_that_comes_late_is_found():
    service = Service()
    server, address = start(service)
    assert server.stop(0).wait(20), "the server has not stopped within 20 s"
    late = []

    def come():
        late.append(grpc.server(futures.ThreadPoolExecutor(2)))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, late[0])
        late[0].add_insecure_port(address)
        late[0].start()

    timer = threading.Timer(0.5, come)
    timer.start()
    with RetrievalClient(address, retries=100) as client:
        np.testing.assert_array_equal(client.describe(PHOTOS[:1]), [row(PHOTOS[0])])
    join([timer])
    late[0].stop(0)


def test_threads_share_a_client(served):
    _, address = served
    with RetrievalClient(address, batch=2) as client, futures.ThreadPoolExecutor(8) as pool:
        asked = [PHOTOS[start:] + PHOTOS[:start] for start in range(7)] * 4
        for photos, rows in zip(asked, pool.map(client.describe, asked), strict=True):
            np.testing.assert_array_equal(rows, np.stack([row(data) for data in photos]))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, its certificates for a server and a client, and a foreign authority."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    for name in ("ca", "foreign"):
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        openssl("req", *key[:3], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")
    return folder


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(certificates, mutual):
    pem = {path.name: path.read_bytes() for path in certificates.iterdir()}
    pair = [(pem["server.key"], pem["server.pem"])]
    authority = pem["ca.pem"] if mutual else None
    server, address = start(Service(), grpc.ssl_server_credentials(pair, authority, mutual))
    own = {"certificate": certificates / "client.pem", "key": certificates / "client.key"}
    options = {"timeout": 3, "retries": 1}
    trusted = {"ca": certificates / "ca.pem"}
    with RetrievalClient(address, **options, **trusted, **own) as client:
        np.testing.assert_array_equal(client.describe(PHOTOS[:1]), [row(PHOTOS[0])])
    refused = [{}, {"ca": certificates / "foreign.pem"}, {"tls": True}] + ([trusted] if mutual else [])
    for wrong in refused:
        with RetrievalClient(address, **options, **wrong) as client, pytest.raises(ConnectionError):
            client.describe(PHOTOS[:1])
    server.stop(0)


def test_wrong_arguments_are_said(tmp_path):
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        RetrievalClient(batch=0)
    with pytest.raises(ValueError, match="certificate and key belong together: give both or neither"):
        RetrievalClient(key=tmp_path / "client.key")
    with pytest.raises(OSError, match=r"no\.pem"):
        RetrievalClient(ca=tmp_path / "no.pem")
    with RetrievalClient("somewhere") as client:
        assert client.address == "somewhere:8500"
        with pytest.raises(ValueError, match="photos must contain at least one photo, got none"):
            client.describe([])
        for photos in ("photo.jpg", tmp_path / "photo.jpg", b"\xff\xd8"):
            for ask in (client.describe, client.search):
                with pytest.raises(ValueError, match="photos must be a list of paths or bytes, got"):
                    ask(photos)
        with pytest.raises(FileNotFoundError, match=r"missing\.jpg does not exist"):
            client.describe([tmp_path / "missing.jpg"])


def test_the_step_prints_lines_of_json_or_writes_an_array(served, tmp_path, capsys):
    _, address = served
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path, data in zip(paths, (PHOTOS[0], b"text", PHOTOS[2]), strict=True):
        path.write_bytes(data)
    with pytest.raises(ValueError, match=r"1\.jpg: not a picture"):
        describe(paths, server=address)
    assert capsys.readouterr().out == ""
    rows = describe(paths, server=address, skip=True)
    left_out, *lines = capsys.readouterr().out.splitlines()
    assert left_out.startswith(f"left out: {paths[1]}: not a picture")
    assert [json.loads(line)["photo"] for line in lines] == [str(paths[0]), str(paths[2])]
    for line, data in zip(lines, (PHOTOS[0], PHOTOS[2]), strict=True):
        np.testing.assert_allclose(json.loads(line)["descriptor"], row(data), rtol=1e-6)
    describe(paths, server=address, skip=True, output=tmp_path / "rows.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy", allow_pickle=False), rows)
    assert f"{tmp_path / 'rows.npy'}: 3 photos x 5 dimensions" in capsys.readouterr().out


def test_it_works_with_the_embedded_server(tmp_path):
    from export.savedmodel.export_saved_model import export_saved_model
    from export.server.config import model_config
    from export.server.server import Server, ServerSettings

    photos = [tmp_path / "photos" / name for name in draw_folder(tmp_path / "photos", 6)]
    model = str(saved_network(tmp_path))
    export_saved_model(model, tmp_path / "small", size=48)
    extract(model, tmp_path / "photos", tmp_path / "rows", size=48)
    names = [json.loads(line) for line in (tmp_path / "rows" / "names.txt").read_text().splitlines()]
    expected = dict(zip(names, shards(tmp_path / "rows"), strict=True))
    (tmp_path / "broken.jpg").write_bytes(photos[0].read_bytes()[:60])
    config = model_config({"small": tmp_path / "small"})
    with Server(config, ServerSettings(port=0, rest_port=0)) as server:
        with RetrievalClient(f"localhost:{server.port}", model="small", batch=4) as client:
            rows = client.describe(photos)
            _, status = client.describe_readable([photos[0], tmp_path / "broken.jpg", photos[1]])
        with (
            RetrievalClient(f"localhost:{server.port}", model="other") as client,
            pytest.raises(ValueError, match=r"model other \(NOT_FOUND\): Servable not found"),
        ):
            client.describe(photos)
    for path, found in zip(photos, rows, strict=True):
        assert found @ expected[path.name] >= 0.9999
    assert status.tolist() == [OK, DAMAGED, OK]
