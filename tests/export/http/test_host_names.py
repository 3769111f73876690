"""Names of the server: DNS rebinding is refused, addresses and the machine's own names are answered."""

import socket

import pytest

from export.http.host_names import HostNames, host_to_allow, is_loopback

LOOPBACK = [
    ("localhost", True), ("LocalHost:8000", True), ("localhost.:8000", True), ("127.0.0.1:8501", True),
    ("127.1.2.3", True),    ("[::1]:8000", True), ("::1", True), ("app.localhost:80", True), ("", True),
    ("evil.example", False), ("evil.example:8000", False), ("localhost.evil.example", False), ("192.168.1.5", False),
    ("127.0.0.1.evil.example", False), ("0.0.0.0", False), ("[::]", False), ("localhost:80:80", False),
    ("localhost:8o", False), ("localhost, evil.example", False), ("evil.example@localhost", False), ("[::1", True),
    ("[::1]evil.example", False), ("localhost/", False), ("löcalhost", False), (" ", False), ("2130706433", False),
    ("0x7f000001", False), ("9" * 5000, False), ("localhost:" + "9" * 5000, True),
]  # fmt: skip


@pytest.mark.parametrize(("host", "answered"), LOOPBACK)
@pytest.mark.parametrize("listens_on", ["127.0.0.1", "localhost", "::1"])
def test_names_on_loopback(listens_on, host, answered):
    assert HostNames(listens_on).answered(host) is answered


ALL = [
    ("192.168.1.5:8000", True), ("[fe80::1%eth0]:8000", True), ("[2001:db8::1]", True), ("localhost:8000", True),
    ("127.0.0.1", True), (socket.gethostname(), True), (f"{socket.gethostname()}.local:80", True), ("", True),
    ("evil.example", False), ("photos.example.org", False), ("evil", False),
]  # fmt: skip


@pytest.mark.parametrize(("host", "answered"), ALL)
def test_names_on_all_addresses(host, answered):
    assert HostNames("0.0.0.0").answered(host) is answered


@pytest.mark.parametrize("listens_on", ["127.0.0.1", "0.0.0.0"])
def test_allowed_names(listens_on):
    names = HostNames(listens_on, ["Photos.Example.org", ".cluster.local"])
    for host in ("photos.example.org:443", "PHOTOS.example.org.", "serve.default.svc.cluster.local:8501", "localhost"):
        assert names.answered(host), host
    for host in ("example.org", "a.photos.example.org", "cluster.local", "xcluster.local", "evil.example"):
        assert not names.answered(host), host
    assert HostNames(listens_on, ["*"]).answered("evil.example")


@pytest.mark.parametrize("name", ["", ".", "a b", "photos:80", "http://photos", "photos/x", "*.example.org", "ü"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ValueError, match=r"--allow-host must be a name such as photos\.example\.org"):
        host_to_allow("--allow-host", name)


def test_loopback_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.1", "photos", "")))
