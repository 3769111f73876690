"""The HTTP server: persistent connections, chunks, gzip; clients that are slow, endless, gone, or do not speak HTTP."""

import contextlib
import errno
import gzip
import http.client
import json
import random
import re
import socket
import threading

import pytest

from export.http import asgi, bodies, connection, http_server
from export.http.bodies import BodyLimits
from export.http.errors import HttpRefusalError, ListenError
from export.http.http_server import HttpServer
from export.http.messages import Response, error_response
from tests.helpers.deadlines import join, wait_until
from tests.helpers.mutations import mutated


class Echo:
    """Answers with the request; a path /wait waits for `go`."""

    def __init__(self):
        self.go, self.count = threading.Event(), 0

    def __call__(self, request):
        self.count += 1
        if request.path == "/wait":
            self.go.wait(10)
        if request.path == "/fails":
            raise OSError("disk")
        if request.path == "/headers":
            return Response(200, json.dumps([request.query, dict(request.headers)]))
        return Response(200, json.dumps([request.method, request.path, request.body.decode("latin-1")]))


def limits(request):
    """1,000 bytes; below /rest the dialect of TensorFlow Serving, and 2,000."""
    return BodyLimits(2000, 3000, any_encoding=True) if request.path.startswith("/rest") else BodyLimits(1000)


def admit(request):
    return error_response(401, "no") if request.path == "/refused" else None


def started(echo, **options):
    settings = {"host": "127.0.0.1", "port": 0, "threads": 4, "most_requests": 2, "limits": limits, "admit": admit}
    return HttpServer(echo, **settings | options)


@pytest.fixture(scope="module")
def echo():
    return Echo()


@pytest.fixture(scope="module")
def server(echo):
    server = started(echo)
    yield server
    echo.go.set()
    server.stop(5)


@pytest.fixture(autouse=True)
def start_over(echo):
    echo.go.clear()
    echo.count = 0


@pytest.fixture
def connection_to(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield connection
    connection.close()


def ask(connection, method, path, body=None, headers=None, **options):
    connection.request(method, path, body, headers or {}, **options)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text else None


def raw(server, data, *, shut=True):
    """The bytes that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(data)
        if shut:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    return received


def test_a_connection_stays_for_many_requests(connection_to):
    for number in range(3):
        assert ask(connection_to, "POST", f"/{number}?query=1", b"ab") == (200, ["POST", f"/{number}", "ab"])
    assert ask(connection_to, "GET", "/") == (200, ["GET", "/", ""])
    connection_to.request("HEAD", "/")
    answer = connection_to.getresponse()
    assert answer.read() == b""
    assert int(answer.headers["Content-Length"]) > 0
    assert ask(connection_to, "GET", "/x") == (200, ["GET", "/x", ""])


def test_the_query_and_the_headers_are_passed_on(connection_to):
    status, (query, headers) = ask(connection_to, "GET", "/headers?a=1&b=%20?", headers={"X-Some": "Ä", "Accept": "a"})
    assert (status, query) == (200, "a=1&b=%20?")
    assert (headers["x-some"], headers["accept"]) == ("Ä", "a")


def test_paths_stay_as_the_client_has_encoded_them(connection_to):
    assert ask(connection_to, "GET", "/a%2Fb%20%ff") == (200, ["GET", "/a%2Fb%20%ff", ""])


def test_an_error_of_the_answer_is_logged_and_the_connection_stays(connection_to, caplog):
    assert ask(connection_to, "GET", "/fails") == (500, {"error": "The server failed, and its log says why: OSError"})
    assert "GET /fails failed" in caplog.text
    assert ask(connection_to, "GET", "/") == (200, ["GET", "/", ""])


def test_chunks(connection_to):
    pieces = iter([b"ab", b"c" * 100])
    assert ask(connection_to, "POST", "/", pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}) == (
        200,
        ["POST", "/", "ab" + "c" * 100],
    )


ENCODINGS = [
    ("/", "gzip", "hello"),
    ("/", "x-gzip", "hello"),
    ("/", "GZIP, identity", "hello"),
    ("/", "identity", None),
    ("/rest", "deflate, gzip", "hello"),
    ("/rest", "br", None),
    ("/rest", "identity", None),
]


@pytest.mark.parametrize(("path", "encoding", "expected"), ENCODINGS)
def test_encodings_of_a_body(connection_to, path, encoding, expected):
    zipped = gzip.compress(b"hello")
    received = ["POST", path, zipped.decode("latin-1") if expected is None else expected]
    assert ask(connection_to, "POST", path, zipped, {"Content-Encoding": encoding}) == (200, received)


def test_a_client_that_waits_for_leave_to_send(server):
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    lines = raw(server, head + b"ab").split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 100")
    assert b"HTTP/1.1 200 OK" in lines


def test_no_leave_is_given_for_a_body_that_is_refused(server):
    head = b"POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert raw(server, head).startswith(b"HTTP/1.1 401 ")


def test_old_clients_are_answered_and_left(server):
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n", shut=False).startswith(b"HTTP/1.1 200 OK")


def test_the_absolute_form_of_a_target(server):
    received = raw(server, b"GET http://some.where:80/headers?a=b HTTP/1.1\r\nHost: other\r\n\r\n")
    assert json.loads(received.partition(b"\r\n\r\n")[2])[0] == "a=b"
    assert b"some.where:80" in received
    assert b"other" not in received


def test_pipelined_requests_are_answered_in_their_order(server):
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    received = raw(server, get % 1 + post + get % 2 + get % 3)
    answers = [json.loads(part.partition(b"\r\n\r\n")[2]) for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert answers == [["GET", "/1", ""], ["POST", "/p", "abc"], ["GET", "/2", ""], ["GET", "/3", ""]]


NINES = b"9" * 5000  # more digits than int() takes
HEAD = b" / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED = [
    (b"POST" + HEAD + b"Content-Length: 1001\r\n\r\n", 413),
    (b"POST /rest HTTP/1.1\r\nHost: a\r\nContent-Length: 2001\r\n\r\n", 413),
    (b"POST" + HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 413),
    (b"POST" + HEAD + b"Content-Length: " + NINES + b"\r\n\r\n", 400),
    (b"POST" + HEAD + b"Content-Length: -1\r\n\r\n", 400),
    (b"POST" + HEAD + b"Content-Length: \xb2\r\n\r\n", 400),
    (b"POST" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (b"POST" + HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    (CHUNKED + b"z\r\n", 400),
    (CHUNKED + b"-5\r\n", 400),
    (CHUNKED + NINES + b"\r\n", 400),
    (CHUNKED + b"3E9\r\n" + b"a" * 1001 + b"\r\n", 413),
    (CHUNKED + b"1\r\na\r\n" * 500 + b"q\r\n", 400),
    (CHUNKED + (b"64\r\n" + b"a" * 100 + b"\r\n") * 11, 413),
    (b"POST" + HEAD + b"Content-Encoding: br\r\nContent-Length: 1\r\n\r\na", 415),
    (b"POST" + HEAD + b"Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\na", 415),
    (b"POST" + HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 400),
    (b"POST" + HEAD + b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", 400),
    (b"POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n", 401),
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/2\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET nothing HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /?a\nSet-Cookie:a=b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    (b"GET" + HEAD + b"a: b\r\n" * 20_000 + b"\r\n", 431),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_requests_that_are_refused(server, echo, caplog, data, status):
    received = raw(server, data)
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    body = received.partition(b"\r\n\r\n")[2]
    assert json.loads(body)["error"]
    assert len(body) < 400
    assert echo.count == 0
    assert caplog.text == ""


def test_a_request_that_others_may_read_as_two_ends_the_connection(server):
    doubtful = b"POST" + HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    received = raw(server, doubtful + b"GET" + HEAD + b"\r\n", shut=False)
    assert (received.count(b"HTTP/1.1 "), b"Connection: close" in received) == (1, True)


ODD = (
    b"\r\n", b"\r\n\r\n", b"\n", b"\0", b" ", b":", b"%", b"%00", b"?", b"/../", b"HTTP/1.0", b"\xff\xfe", b"-1",
    b"9" * 5000, b"a" * 70_000, b"\r\nContent-Length: 5", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: b",
    b"\r\nExpect: 100-continue", b"\r\nUpgrade: websocket\r\nConnection: upgrade", b"\r\nContent-Encoding: gzip",
)  # fmt: skip
SOUND = [
    b'GET /a%20b?c=d HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nIf-None-Match: W/"a"\r\n\r\n',
    b"POST /rest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n" + gzip.compress(b"hello"),
    b"HEAD http://a/b HTTP/1.0\r\n\r\n",
    b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
]


def test_mutated_requests_end_in_an_answer_or_the_end_of_the_connection(server, connection_to, caplog):
    chance = random.Random(0)
    for number in range(600):
        received = raw(server, mutated(chance, SOUND[number % len(SOUND)], ODD))
        assert received.startswith(b"HTTP/1.1 ") or not received
    assert caplog.text == ""
    assert not server._answers._running + server._answers._unzipping + server._answers._held._held
    assert ask(connection_to, "GET", "/x") == (200, ["GET", "/x", ""])


def test_a_body_of_many_small_chunks_is_refused(server, monkeypatch):
    monkeypatch.setattr(connection, "MOST_CHUNKS", 100)
    for count, size, status in ((100, 1, 200), (101, 1, 413), (3, 300, 200)):
        chunk = b"%x\r\n%s\r\n" % (size, b"a" * size)
        assert raw(server, CHUNKED + chunk * count + b"0\r\n\r\n").startswith(b"HTTP/1.1 %d " % status)


def test_a_refused_client_gets_the_answer_before_it_has_sent_everything(server):
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"POST" + HEAD + b"Content-Length: 10000000\r\n\r\n")
        client.sendall(b"a" * 1_000_000)
        assert client.recv(12) == b"HTTP/1.1 413"
        with contextlib.suppress(OSError):
            client.sendall(b"a" * 1_000_000)


def test_a_refused_client_that_ends_the_connection_can_send_everything(server):
    """The connection is not closed while its client sends: the system would reset it, and the answer could be lost."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"POST" + HEAD + b"Connection: close\r\nContent-Length: 10000000\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 413"
        for _ in range(10):
            client.sendall(b"a" * 1_000_000)
        received = b"".join(iter(lambda: client.recv(65536), b""))
        assert json.loads(received.partition(b"\r\n\r\n")[2]) == {"error": "The body is larger than 1000 bytes"}


def test_after_a_refused_body_the_connection_goes_on(connection_to):
    assert ask(connection_to, "POST", "/", b"a" * 1001)[0] == 413
    assert ask(connection_to, "GET", "/x") == (200, ["GET", "/x", ""])


@pytest.mark.parametrize("size", [10**8, 3001])
def test_a_gzip_bomb(connection_to, echo, size):
    bomb = gzip.compress(b"\0" * size)[:2000]  # what is behind the limit is not looked at
    status, answer = ask(connection_to, "POST", "/rest", bomb, {"Content-Encoding": "gzip"})
    assert (status, answer) == (413, {"error": "The unzipped body is larger than 3000 bytes"})
    assert echo.count == 0


def test_a_body_that_grows_a_hundred_times_is_refused(monkeypatch):
    monkeypatch.setattr(bodies, "BOMB_BYTES", 10_000)
    limits = BodyLimits(10**6)
    for size, refused in ((10_000, False), (10_001, True)):
        zipped = gzip.compress(b"0" * size)
        assert size > 100 * len(zipped)
        with pytest.raises(HttpRefusalError, match="100 times its size") if refused else contextlib.nullcontext():
            assert bodies.unzipped_size(zipped, limits) == size
    words = gzip.compress(b"".join(b"%d," % number for number in range(10_000)))
    assert bodies.unzipped_size(words, limits) == len(bodies.unzipped(words, limits)) == 48_890


def test_truncated_gzip_is_refused(connection_to):
    zipped = gzip.compress(b"hello")
    for part in (zipped[:-9], zipped[:5]):
        assert ask(connection_to, "POST", "/", part, {"Content-Encoding": "gzip"})[0] == 400


def test_no_more_bodies_are_unzipped_than_the_limit(connection_to, monkeypatch):
    monkeypatch.setattr(asgi, "MOST_UNZIPPING", 0)
    assert ask(connection_to, "POST", "/", gzip.compress(b"hello"), {"Content-Encoding": "gzip"})[0] == 503


def test_slow_clients_are_cut_off_and_idle_ones_hold_up_nobody(echo, monkeypatch):
    monkeypatch.setattr(connection, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(asgi, "READ_SECONDS", 0.2)
    server = started(echo)
    idle, *slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(3)]
    slow[0].sendall(b"GET / HT")
    slow[1].sendall(b"POST" + HEAD + b"Content-Length: 10\r\n\r\nab")
    assert [client.recv(12) for client in slow] == [b"HTTP/1.1 408"] * 2
    idle.sendall(b"GET" + HEAD + b"\r\n")
    assert idle.recv(12) == b"HTTP/1.1 200"
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.1)
    while idle.recv(1000):
        pass
    for client in [idle, *slow]:
        client.close()
    server.stop(0)


def test_clients_that_do_not_read_are_cut_off(monkeypatch):
    monkeypatch.setattr(connection, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(connection, "WRITE_SECONDS", 0.1)
    server = started(lambda request: Response(200, b"a" * 2**26, "image/jpeg"))
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"GET" + HEAD + b"\r\n")
        assert client.recv(1) == b"H"
        wait_until(lambda: not server._server.server_state.connections, "the connection has ended")
    server.stop(0)


def test_a_new_connection_takes_the_place_of_the_slowest(echo, monkeypatch):
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 6)  # three of one address
    server = started(echo)
    busy = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    busy.request("GET", "/wait")
    wait_until(lambda: echo.count == 1, "the request has arrived")
    slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(2)]
    for number, client in enumerate(slow):
        client.sendall(b"GET / HT")
        wait_until(lambda number=number: states(server).count("head") == number + 1, "the first bytes have arrived")
    new = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    assert ask(new, "GET", "/") == (200, ["GET", "/", ""])
    with contextlib.suppress(ConnectionResetError):
        assert slow[0].recv(1) == b""
    echo.go.set()
    assert busy.getresponse().status == 200
    for client in (busy, new, *slow):
        client.close()
    server.stop(0)


def test_connections_beyond_the_limit_are_refused_if_all_are_being_answered(echo, monkeypatch):
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 2)
    server = started(echo)
    busy = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    busy.request("GET", "/wait")
    wait_until(lambda: echo.count == 1, "the request has arrived")
    assert raw(server, b"").startswith(b"HTTP/1.1 503 ")
    echo.go.set()
    assert busy.getresponse().status == 200
    busy.close()
    server.stop(0)


def states(server):
    return [connection._state for connection in server._server.server_state.connections]


def test_requests_beyond_the_bound_are_told_at_once_and_half_bodies_do_not_count(server, echo, connection_to):
    half = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(5)]
    for client in half:
        client.sendall(b"POST" + HEAD + b"Content-Length: 10\r\n\r\nab")
    wait_until(lambda: states(server).count("answered") == 5, "the half bodies have arrived")
    others = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2)]
    for other in others:
        other.request("GET", "/wait")
    wait_until(lambda: echo.count == 2, "both requests have arrived")
    status, answer = ask(connection_to, "GET", "/")
    assert (status, answer) == (429, {"error": "2 requests are waiting already; try again"})
    echo.go.set()
    assert [other.getresponse().status for other in others] == [200, 200]
    for other in [*others, *half]:
        other.close()


def test_large_bodies_share_a_limited_memory(monkeypatch):
    monkeypatch.setattr("export.http.bodies.SMALL", 1000)
    server = started(lambda request: Response(200, "[]"), limits=BodyLimits(5000), held_bytes=4600)
    half = socket.create_connection(("127.0.0.1", server.port), 10)
    half.sendall(b"POST" + HEAD + b"Content-Length: 5000\r\n\r\n" + b"a" * 4000)
    wait_until(lambda: server._answers._held._held == 4000, "the half body has arrived")
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    assert ask(client, "POST", "/", b"a" * 1001)[0] == 503
    assert ask(client, "POST", "/", b"a" * 1000)[0] == 200
    half.close()
    wait_until(lambda: server._answers._held._held == 0, "the half body is gone")
    assert ask(client, "POST", "/", b"a" * 4500)[0] == 200
    client.close()
    server.stop(0)


def test_a_stopping_server_answers_what_it_has_and_leaves_the_idle(echo):
    server = started(echo)
    idle = socket.create_connection(("127.0.0.1", server.port), 10)
    busy = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    busy.request("GET", "/wait")
    wait_until(lambda: echo.count == 1, "the request has arrived")
    stopping = threading.Thread(target=server.stop, args=(5,))
    stopping.start()
    assert idle.recv(1) == b""
    echo.go.set()
    answer = busy.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    join([stopping])
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), 5)
    idle.close()
    busy.close()


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def check_addresses(server, addresses):
    for address in addresses:
        with socket.create_connection((address, server.port), 10) as connection:
            connection.sendall(b"GET" + HEAD + b"\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
    server.stop(5)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_all_addresses(echo):
    check_addresses(started(echo, host=""), ["127.0.0.1", "::1"])


def test_all_addresses_without_ipv6(echo, monkeypatch):
    class Socket(socket.socket):
        def bind(self, address):
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "IPv6 is switched off")
            super().bind(address)

    with monkeypatch.context() as patch:
        patch.setattr(http_server.socket, "socket", Socket)
        server = started(echo, host="")
    check_addresses(server, ["127.0.0.1"])


def test_a_port_in_use_is_said(server, echo):
    with pytest.raises(ListenError, match=rf"HTTP cannot listen at 127\.0\.0\.1:{server.port}: .*in use"):
        started(echo, port=server.port)
    with pytest.raises(ListenError, match=re.escape("HTTP cannot listen at 192.0.2.1:0: ")):
        started(echo, host="192.0.2.1")
