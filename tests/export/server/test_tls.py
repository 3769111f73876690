"""TLS and mutual TLS on both ports: a client with a wrong certificate, or without one, is not served."""

import shutil
import ssl
import subprocess
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest

from export.server.config import read_ssl_config
from tests.helpers.serving_models import Client, save_toy, serving

X = {"x": np.ones((1, 2), np.float32)}
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made with openssl")


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def authority(folder, name):
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}",
            "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt")  # fmt: skip


def certificate(folder, name, signer, days=2):
    """A key and a certificate of 127.0.0.1; one of -1 days has expired."""
    request, extensions = folder / f"{name}.csr", folder / f"{name}.txt"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key",
            "-out", request)  # fmt: skip
    openssl("x509", "-req", "-in", request, "-CA", folder / f"{signer}.crt", "-CAkey", folder / f"{signer}.key",
            "-CAcreateserial", "-days", days, "-extfile", extensions, "-out", folder / f"{name}.crt")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    save_toy(folder / "toy" / "1")
    authority(folder, "ours")
    authority(folder, "theirs")
    certificate(folder, "server", "ours")
    certificate(folder, "expired", "ours", days=-1)
    certificate(folder, "client", "ours")
    certificate(folder, "stranger", "theirs")
    return folder


def config(folder, name, **fields):
    """SSLConfig of a server, as TensorFlow Serving reads it."""
    from google.protobuf import text_format

    texts = {"server_key": f"{name}.key", "server_cert": f"{name}.crt", **fields}
    lines = [f'{field}: "{text_format.text_encoding.CEscape((folder / file).read_bytes(), False)}"'
             for field, file in texts.items() if field != "client_verify"]  # fmt: skip
    path = folder / f"{name}-{len(fields)}.pbtxt"
    path.write_text("\n".join([*lines, f"client_verify: {fields.get('client_verify', 'false')}"]))
    return read_ssl_config(path)


def grpc_client(client, folder, authority="ours", identity=None):
    pem = (
        [(folder / name).read_bytes() for name in (f"{identity}.key", f"{identity}.crt")] if identity else [None, None]
    )
    credentials = grpc.ssl_channel_credentials((folder / f"{authority}.crt").read_bytes(), *pem)
    return Client(client.port, client.rest_port, grpc.secure_channel(f"127.0.0.1:{client.port}", credentials))


def predicts(client):
    try:
        return client.predict(X, seconds=5)["y"].tolist() == [[2, 2]]
    except grpc.RpcError as error:
        if error.code().name == "UNAVAILABLE":
            return False
        raise


def rest_answers(client, folder, authority="ours", identity=None, scheme="https"):
    context = ssl.create_default_context(cafile=folder / f"{authority}.crt")
    if identity:
        context.load_cert_chain(folder / f"{identity}.crt", folder / f"{identity}.key")
    url = f"{scheme}://127.0.0.1:{client.rest_port}/v1/models/toy"
    try:
        with urllib.request.urlopen(url, timeout=5, context=context if scheme == "https" else None) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_tls(folder):
    with serving({"toy": folder / "toy"}, ssl=config(folder, "server")) as client:
        assert predicts(grpc_client(client, folder))
        assert not predicts(grpc_client(client, folder, "theirs"))
        assert not predicts(client)
        assert rest_answers(client, folder)
        assert not rest_answers(client, folder, "theirs")
        assert not rest_answers(client, folder, scheme="http")


def test_mutual_tls(folder):
    both = config(folder, "server", custom_ca="ours.crt", client_verify="true")
    with serving({"toy": folder / "toy"}, ssl=both) as client:
        for answers in (
            lambda *who: predicts(grpc_client(client, folder, *who)),
            lambda *who: rest_answers(client, folder, *who),
        ):
            assert answers("ours", "client")
            assert not answers("ours", "stranger")
            assert not answers("ours")
        assert not predicts(client)


def test_an_expired_certificate_is_refused(folder):
    with serving({"toy": folder / "toy"}, ssl=config(folder, "expired")) as client:
        assert not predicts(grpc_client(client, folder))
        assert not rest_answers(client, folder)


def test_an_expired_client_is_refused(folder):
    both = config(folder, "server", custom_ca="ours.crt", client_verify="true")
    with serving({"toy": folder / "toy"}, ssl=both) as client:
        assert not predicts(grpc_client(client, folder, "ours", "expired"))
        assert not rest_answers(client, folder, "ours", "expired")


def test_keys_that_are_none_are_named(folder):
    (folder / "bad.key").write_text("no key")
    (folder / "bad.crt").write_text("no certificate")
    with pytest.raises(ValueError, match="cannot be used"), serving({"toy": folder / "toy"}, ssl=config(folder, "bad")):
        pass
