"""The token of a server: its file, the headers that contain it, the cookie, and the guard in front of the answers."""

import http.client
from http.cookies import SimpleCookie

import pytest

from export.http.base_path import below
from export.http.bodies import BodyLimits
from export.http.guard import Guard
from export.http.host_names import HostNames
from export.http.http_server import HttpServer
from export.http.messages import Request, Response
from export.http.tokens import Token, read_token, token_file

SECRET = "a-secret_of.16+=~"
TOKEN = Token(SECRET)


@pytest.mark.parametrize("content", [SECRET, f"{SECRET}\n", f"  {SECRET}\r\nanother line\n", "a" * 4096])
def test_the_first_line_is_the_token(tmp_path, content):
    (tmp_path / "token").write_text(content)
    assert read_token(tmp_path / "token").secret == content.splitlines()[0].strip()


@pytest.mark.parametrize(
    "content", [b"", b"\n" + SECRET.encode(), b"short", b"a" * 5000, b"two words of some", b"\xff" * 20]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ValueError, match=r"--token .*token: the first line must be a token of 16 or more characters"):
        token_file("--token", tmp_path / "token")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(ValueError, match=f"--token {path} cannot be read: {reason}"):
            token_file("--token", path)


def cookie(secret=SECRET):
    return Token(secret).cookie("/", secure=False).partition(";")[0]


HEADERS = [
    ({"authorization": f"Bearer {SECRET}"}, True),
    ({"authorization": f"bearer   {SECRET} "}, True),
    ({"cookie": f"other=1; {cookie()}; more=2"}, True),
    ({}, False),
    ({"authorization": SECRET}, False),
    ({"authorization": f"Basic {SECRET}"}, False),
    ({"authorization": f"Bearer {SECRET[:-1]}"}, False),
    ({"authorization": "Bearer "}, False),
    ({"authorization": "Bearer \xff\udcff"}, False),
    ({"cookie": cookie("another secret of 16")}, False),
    ({"cookie": f"{TOKEN.cookie_name}={SECRET}"}, False),
    ({"cookie": f"{TOKEN.cookie_name}="}, False),
    ({"cookie": f"{TOKEN.cookie_name}=\xff"}, False),
    ({"cookie": f"[=; {TOKEN.cookie_name}"}, False),
]


@pytest.mark.parametrize(("headers", "accepted"), HEADERS)
def test_headers_with_and_without_the_token(headers, accepted):
    assert TOKEN.is_in(headers) is accepted


def test_the_cookie_is_for_the_server_alone_and_does_not_contain_the_secret():
    morsel = SimpleCookie(TOKEN.cookie("/photos/", secure=True))[TOKEN.cookie_name]
    assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"]) == (
        True,
        "Strict",
        "/photos/",
        True,
    )
    assert not SimpleCookie(TOKEN.cookie("/", secure=False))[TOKEN.cookie_name]["secure"]
    assert SECRET not in TOKEN.cookie("/", secure=True)


# -- the guard in front of a server


def form(wrong):
    return Response(401, f"<form>{wrong}", "text/html")


@pytest.fixture(scope="module")
def server():
    guard = Guard(HostNames("127.0.0.1"), TOKEN, base="/b", form=form, open_paths=("/style.css",))
    answer = below("/b", guard.answering(lambda request: Response(200, request.path, "text/plain")))
    limits = guard.limits(lambda _: BodyLimits(10**6))
    server = HttpServer(
        answer, host="127.0.0.1", port=0, threads=2, most_requests=4, limits=limits, admit=guard.admit
    )  # fmt: skip
    yield server
    server.stop(0)


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_requests_need_the_token_but_for_probes_and_the_style_of_the_form(server):
    for path in ("/b/", "/b/x", "/b/photos/a.jpg", "/b/v1/models/m:predict", "/", "/x", "/b"):
        status, text, headers = ask(server, "POST", path, b"a" * 1000)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "Authorization: Bearer TOKEN" in text
        assert ask(server, "GET", path, Authorization=f"Bearer {SECRET}")[0] == (
            404 if path in ("/", "/x") else 307 if path == "/b" else 200
        )
    assert ask(server, "GET", "/b/healthz")[:2] == (200, "ok\n")
    assert ask(server, "GET", "/b/healthz", Host="10.0.0.1:80")[:2] == (200, "ok\n")
    assert ask(server, "GET", "/b/style.css")[0] == 200
    assert ask(server, "OPTIONS", "/b/x")[0] == 200


def test_other_names_of_the_server_are_refused_even_with_the_token(server):
    status, text, _ = ask(server, "GET", "/b/", Host="evil.example:80", Authorization=f"Bearer {SECRET}")
    assert status == 421
    assert "does not answer for the name evil.example:80" in text
    assert "--allow-host" in text
    status, text, _ = ask(server, "GET", "/b/", Host="e" * 30_000)
    assert status == 421
    assert len(text) < 500
    assert ask(server, "GET", "http://evil.example/b/", Host="localhost")[0] == 421


def test_a_browser_is_asked_for_the_token_once(server):
    browser = {"Accept": "text/html,*/*"}
    assert ask(server, "GET", "/b/", **browser)[:2] == (401, "<form>False")
    status, _, headers = ask(server, "GET", "/b/photos/a.jpg", **browser)
    assert (status, headers["Location"]) == (303, "/b/")
    assert ask(server, "POST", "/b/sign-in", "token=wrong")[:2] == (401, "<form>True")
    assert ask(server, "POST", "/b/sign-in", b"\xff&&&==&" * 100)[:2] == (401, "<form>True")
    assert ask(server, "POST", "/b/sign-in", b"a" * 20_000)[0] == 413
    assert ask(server, "GET", "/b/sign-in")[2]["Location"] == "/b/"
    status, _, headers = ask(server, "POST", "/b/sign-in", "other=1&token=a-secret_of.16%2B%3D~")
    assert (status, headers["Location"], headers["Cache-Control"]) == (303, "/b/", "no-store")
    remembered = headers["Set-Cookie"].partition(";")[0]
    assert ask(server, "GET", "/b/", Cookie=remembered, **browser)[:2] == (200, "/")


def test_without_a_token_all_is_answered():
    guard = Guard(HostNames("0.0.0.0"), None)
    assert guard.admit(Request("POST", "/x", headers={"host": "10.0.0.1"})) is None
    assert guard.admit(Request("POST", "/x", headers={"host": "evil.example"})).status == 421
    assert guard.answering(lambda _: Response(200, ""))(Request("GET", "/sign-in")).status == 200
