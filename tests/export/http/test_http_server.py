"""The HTTP server: persistent connections, chunks, gzip; clients that are slow, endless, gone, or do not speak HTTP."""

import gzip
import http.client
import json
import socket
import threading

import pytest

from export.http import http_server
from export.http.http_server import HttpServer
from export.http.messages import Response
from tests.helpers.deadlines import join, wait_until


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


@pytest.fixture
def echo():
    return Echo()


@pytest.fixture
def server(echo):
    server = HttpServer(echo, host="127.0.0.1", port=0, threads=4, most_requests=2, max_body=1000)
    yield server
    echo.go.set()
    server.stop(5)


@pytest.fixture
def connection(server):
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
        connection.sendall(data)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received


def test_a_connection_stays_for_many_requests(connection):
    for number in range(3):
        assert ask(connection, "POST", f"/{number}?query=1", b"ab") == (200, ["POST", f"/{number}", "ab"])
    assert ask(connection, "GET", "/") == (200, ["GET", "/", ""])
    connection.request("HEAD", "/")
    answer = connection.getresponse()
    assert answer.read() == b""
    assert int(answer.headers["Content-Length"]) > 0
    assert ask(connection, "GET", "/x") == (200, ["GET", "/x", ""])


def test_the_query_and_the_headers_are_passed_on(connection):
    status, (query, headers) = ask(connection, "GET", "/headers?a=1&b=%20?", headers={"X-Some": "Ä", "Accept": "a"})
    assert (status, query) == (200, "a=1&b=%20?")
    assert (headers["x-some"], headers["accept"]) == ("Ä", "a")


def test_an_error_of_the_answer_is_logged_and_the_connection_stays(connection, caplog):
    assert ask(connection, "GET", "/fails") == (500, {"error": "The server failed, and its log says why: OSError"})
    assert "GET /fails failed" in caplog.text
    assert ask(connection, "GET", "/") == (200, ["GET", "/", ""])


def test_chunks_and_gzip(connection):
    pieces = iter([b"ab", b"c" * 100])
    assert ask(connection, "POST", "/", pieces, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}) == (
        200,
        ["POST", "/", "ab" + "c" * 100],
    )
    zipped = gzip.compress(b"hello")
    assert ask(connection, "POST", "/", zipped, {"Content-Encoding": "gzip"}) == (200, ["POST", "/", "hello"])


def test_a_client_that_waits_for_leave_to_send(server):
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    received = raw(server, head + b"ab")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_old_clients_are_answered_and_left(server):
    assert raw(server, b"GET / HTTP/1.0\r\n\r\n", shut=False).startswith(b"HTTP/1.1 200 OK")


REFUSED = [
    (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
    (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 400),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 413),
    (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3E9\r\n", 413),
    (b"POST / HTTP/1.1\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\na", 415),
    (b"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 400),
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/2\r\n\r\n", 400),
    (b"GET /?a\nSet-Cookie:a=b HTTP/1.1\r\n\r\n", 400),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
]


@pytest.mark.parametrize(("data", "status"), REFUSED)
def test_requests_that_are_refused(server, echo, data, status):
    assert raw(server, data).split(b"\r\n")[0].startswith(f"HTTP/1.1 {status} ".encode())
    assert echo.count == 0


def test_a_gzip_bomb(server, echo):
    bomb = gzip.compress(b"\0" * 10**8)
    head = f"POST / HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    server._max_body = len(bomb)
    assert raw(server, head + bomb).startswith(b"HTTP/1.1 413 ")
    assert echo.count == 0


def test_slow_clients_are_cut_off_and_idle_ones_hold_up_nobody(server, connection, monkeypatch):
    monkeypatch.setattr(http_server, "READ_SECONDS", 0.2)
    idle = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(50)]
    slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(2)]
    slow[0].sendall(b"GET / HT")
    slow[1].sendall(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab")
    assert [client.recv(100) for client in slow] == [b"", b""]
    assert ask(connection, "GET", "/") == (200, ["GET", "/", ""])
    for client in idle + slow:
        client.close()


def test_no_more_connections_than_the_house_holds(server, connection, monkeypatch):
    assert ask(connection, "GET", "/") == (200, ["GET", "/", ""])
    monkeypatch.setattr(http_server, "MOST_CONNECTIONS", 1)
    assert raw(server, b"").startswith(b"HTTP/1.1 503 ")
    assert ask(connection, "GET", "/") == (200, ["GET", "/", ""])


def test_requests_beyond_the_bound_are_told_at_once(server, echo, connection):
    others = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2)]
    for other in others:
        other.request("GET", "/wait")
    wait_until(lambda: echo.count == 2, "both requests have arrived")
    status, answer = ask(connection, "GET", "/")
    assert (status, answer) == (429, {"error": "2 requests are waiting already; try again"})
    echo.go.set()
    assert [other.getresponse().status for other in others] == [200, 200]
    for other in others:
        other.close()


def test_a_stopping_server_answers_what_it_has_and_leaves_the_idle(echo):
    server = HttpServer(echo, host="127.0.0.1", port=0, threads=4, most_requests=4, max_body=1000)
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
