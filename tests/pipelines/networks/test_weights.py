"""The step `weights`: the list, and downloads from a server on this machine that is slow, breaks off or lies."""

import errno
import hashlib
import http.server
import json
import shutil
import threading
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.networks import published_files
from keras_retrieval.networks.errors import DownloadError, WeightsError, WeightsNotFoundError
from keras_retrieval.networks.names import NETWORKS, check_weights, published_file, split_name
from keras_retrieval.networks.published_files import FILES, WEIGHTS_VARIABLE, file_in_folder, named_file
from pipelines.files.space import DiskSpaceError
from pipelines.networks import download as module
from pipelines.networks.download import download
from pipelines.networks.files import model_identity
from pipelines.networks.weights import weights

CONTENT = bytes(range(256)) * 40  # 10,240 bytes


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the path says; `asked` records the Range of each request."""

    asked: ClassVar[list[str | None]] = []
    tag = '"one"'

    def log_message(self, *words):
        """Nothing on stderr."""

    def do_GET(self):
        self.asked.append(self.headers.get("Range"))
        getattr(self, self.path.strip("/").replace("-", "_"))()

    def _head(self, status, length, **headers):
        self.send_response(status)
        self.send_header("Content-Type", headers.pop("kind", "application/octet-stream"))
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def whole(self):
        self._head(200, len(CONTENT), ETag=self.tag)
        self.wfile.write(CONTENT)

    def without_length(self):
        self._head(200, None)
        self.wfile.write(CONTENT)

    def moved(self):
        self._head(302, 0, Location="/whole")

    def absent(self):
        self.send_error(404)

    def page(self):
        self._head(200, 5, kind="text/html; charset=utf-8")
        self.wfile.write(b"hello")

    def empty(self):
        self._head(200, 0)

    def breaks(self):
        """Sends 4,000 bytes of what is asked for; continues a file of the same tag."""
        asked = self.headers.get("Range")
        start = int(asked[6:-1]) if asked and self.headers.get("If-Range") == self.tag else 0
        span = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        self._head(
            206 if start else 200, len(CONTENT) - start, ETag=self.tag, **({"Content_Range": span} if start else {})
        )
        self.wfile.write(CONTENT[start : start + 4000])

    def breaks_at_once(self):
        self._head(200, len(CONTENT), ETag=self.tag)

    def breaks_without_tag(self):
        self._head(200, len(CONTENT))
        self.wfile.write(CONTENT[:4000])

    def silent(self):
        stopped.wait(5)


stopped = threading.Event()


@pytest.fixture(scope="module")
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    stopped.set()
    made.shutdown()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The weights folder, which does not exist yet."""
    Handler.asked.clear()
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def published(server, folder, monkeypatch):
    """Makes a file of the table that the server has, small and at a given path."""

    def publish(path, name="megaloc", **changes):
        monkeypatch.setitem(FILES, name, replace(FILES[name], url=f"{server}/{path}", megabytes=0.01, **changes))

    return publish


@pytest.mark.parametrize("path", ["whole", "moved", "without-length", "breaks"])
def test_get_downloads_the_file_and_says_the_licence_first(path, published, folder, capsys):
    published(path)
    assert weights("get", ["megaloc"]) == [folder / "megaloc.safetensors"]
    assert (folder / "megaloc.safetensors").read_bytes() == CONTENT
    assert [entry.name for entry in folder.iterdir()] == ["megaloc.safetensors"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "megaloc: licence: MIT, https://huggingface.co/gberton/MegaLoc"
    assert "0.0 MB, no SHA-256 is published" in lines[-1]
    asked = len(Handler.asked)
    weights("get", ["megaloc"])
    assert "is there already" in capsys.readouterr().out
    assert len(Handler.asked) == asked


def test_a_download_that_breaks_off_continues_where_it_was(published, folder):
    published("breaks")
    weights("get", ["megaloc"])
    assert Handler.asked == [None, "bytes=4000-", "bytes=8000-"]


def test_an_interrupted_download_is_continued_by_the_next_command(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 1)
    path = tmp_path / "file.pth"
    for done in (4000, 8000):
        with pytest.raises(DownloadError, match=r"stopped after 0\.0 MB .*run the command again, which continues it"):
            download(f"{server}/breaks", path)
        assert (tmp_path / ".file.pth.partial").stat().st_size == done
        assert not path.exists()
    download(f"{server}/breaks", path)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_another_version_of_the_file_is_not_appended(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TRIES", 1)
    with pytest.raises(DownloadError):
        download(f"{server}/breaks", tmp_path / "file.pth")
    (tmp_path / ".file.pth.partial").write_bytes(b"old" * 1000)
    monkeypatch.setattr(Handler, "tag", '"two"')
    with pytest.raises(DownloadError):
        download(f"{server}/breaks", tmp_path / "file.pth")
    assert (tmp_path / ".file.pth.partial").read_bytes() == CONTENT[:4000]


def test_by_hand_is_said_the_name_on_the_page_and_that_in_the_folder(folder):
    assert FILES["megaloc"].by_hand.startswith("fetch model.safetensors from https://huggingface.co/gberton/MegaLoc by")
    assert FILES["megaloc"].by_hand.endswith(f"put it into {folder} as megaloc.safetensors")
    for name in ("dinov2vits14", "mixvpr"):  # with an address and without one
        assert FILES[name].by_hand.startswith(f"fetch {FILES[name].file} from ")
        assert FILES[name].by_hand.endswith(f"put it into {folder}")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("absent", "the server answers 404"),
        ("page", "sends a web page instead of the file"),
        ("empty", "sends an empty file"),
        ("breaks-without-tag", r"stopped after 0\.0 MB"),
        ("breaks-at-once", "stopped after"),
        ("silent", r"no answer within 0 seconds|stopped after"),
    ],
)
def test_a_failed_download_leaves_no_file_and_says_how_to_fetch_it_by_hand(
    path, reason, published, folder, monkeypatch
):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    published(path)
    with pytest.raises(DownloadError, match=reason) as caught:
        weights("get", ["megaloc"])
    assert str(caught.value).endswith(
        f"Or fetch {path} from https://huggingface.co/gberton/MegaLoc by hand and put it into {folder} as "
        "megaloc.safetensors"
    )
    assert list(folder.iterdir()) == []


def test_without_a_connection(published, folder, monkeypatch):
    published("whole")
    monkeypatch.setitem(FILES, "megaloc", replace(FILES["megaloc"], url="http://127.0.0.1:9/x"))
    with pytest.raises(DownloadError, match="cannot be reached: connection refused"):
        weights("get", ["megaloc"])
    assert list(folder.iterdir()) == []


def test_the_first_digits_of_the_sha256_are_checked(published, folder):
    digits = hashlib.sha256(CONTENT).hexdigest()[:8]
    published("whole", "torchresnet18", file=f"resnet18-{digits}.pth")
    assert weights("get", ["torchresnet18"]) == [folder / f"resnet18-{digits}.pth"]
    published("whole", "torchresnet34", file="resnet34-01234567.pth")
    with pytest.raises(DownloadError, match=f"not the published file: its SHA-256 begins with {digits}, not 01234567"):
        weights("get", ["torchresnet34"])
    assert [path.name for path in folder.iterdir()] == [f"resnet18-{digits}.pth"]
    (folder / "resnet34-01234567.pth").write_bytes(b"fetched by hand, and cut off")
    with pytest.raises(DownloadError, match=r"resnet34-01234567\.pth is not the published file"):
        weights("get", ["torchresnet34"])


def test_a_disk_without_space_is_found_before_the_download(published, folder, monkeypatch):
    published("whole")
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**6, 10**6 - 100, 100))
    with pytest.raises(DiskSpaceError, match=r"needs [\d.]+ kB, and 0\.1 kB are free on its disk"):
        weights("get", ["megaloc"])
    assert Handler.asked == []


def test_a_disk_that_fills_up_is_freed_again(server, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_receive", full)
    with pytest.raises(DiskSpaceError, match=r"file\.pth needs more than the [\d.,]+ [kMG]B that are free on its disk"):
        download(f"{server}/whole", tmp_path / "file.pth")
    assert list(tmp_path.iterdir()) == []


def test_two_downloads_of_one_file_do_not_mix(server, tmp_path):
    with module._alone(tmp_path / ".file.pth.partial"), pytest.raises(DownloadError, match="another process downloads"):
        download(f"{server}/whole", tmp_path / "file.pth")


def test_a_redirection_to_an_unencrypted_address_is_refused():
    request = module.urllib.request.Request("https://example.org/a")
    with pytest.raises(DownloadError, match=r"redirected to http://example\.org/b, which is not encrypted"):
        module._Redirections().redirect_request(request, None, 302, "Found", {}, "http://example.org/b")


@pytest.mark.parametrize(
    ("name", "reason"), [("dinov3vitb16", "acceptance of the licence on the page"), ("mixvpr", "Google Drive")]
)
def test_files_behind_a_form_are_not_downloaded(name, reason, folder, capsys):
    with pytest.raises(DownloadError, match=f"{name} is not downloaded.*{reason}") as caught:
        weights("get", [name])
    assert FILES[name].publisher.page in str(caught.value)
    assert f"put it into {folder}" in str(caught.value)
    assert capsys.readouterr().out.startswith(f"{name}: licence: ")


def test_the_list_says_what_is_there(folder, capsys):
    folder.mkdir()
    (folder / "MegaLoc.pth").write_bytes(b"x")
    assert weights() == [folder / "MegaLoc.pth"]
    shown = capsys.readouterr().out
    assert f"weights folder: {folder}" in shown
    assert "MegaLoc: licence: MIT; https://huggingface.co/gberton/MegaLoc" in shown
    assert f"there: {folder / 'MegaLoc.pth'}" in shown
    assert all(name in shown for name in FILES)
    weights("list", ["megaloc", "dinov3vits16"], json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["folder"] == str(folder)
    assert [entry["path"] for entry in told["files"]] == [str(folder / "MegaLoc.pth"), None]
    assert told["files"][1]["sha256"] == "08c60483"
    assert {"name", "file", "page", "bytes", "licence", "needs"} <= told["files"][0].keys()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("get",), "NAMES is empty"),
        (("get", ["megalok"]), "unknown weights 'megalok'. The nearest is 'megaloc'"),
        (("megaloc",), "ACTION must be one of list, get"),
    ],
)
def test_wrong_words_are_refused(arguments, reason, folder):
    with pytest.raises(ArgumentError, match=reason):
        weights(*arguments)


def test_a_weights_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "file"))
    reason = "weights folder .*file cannot be read: Not a directory; KERAS_RETRIEVAL_WEIGHTS names another"
    for call in (weights, lambda: file_in_folder(FILES["megaloc"])):
        with pytest.raises(WeightsError, match=reason):
            call()


def test_every_file_belongs_to_a_network_or_a_trunk():
    for name, file in FILES.items():
        assert file.publisher.convert or split_name(name if name in NETWORKS else f"{name}_gem"), name
        assert file.file.lower().endswith(published_files.SUFFIXES), name
        assert file.url.startswith(("https://", "http://cmp.felk.cvut.cz/")) or (
            not file.url and file.publisher.needs
        ), name
    assert {name for name in NETWORKS if name not in FILES} == set()


@pytest.mark.parametrize(
    ("network", "file"),
    [
        ("megaloc", "megaloc.safetensors"),
        ("dinov2vitb14_megaloc", "megaloc.pth"),
        ("salad", "dino_salad.ckpt"),
        ("dinov2vitb14_salad", "cliquemining.ckpt"),
        ("dinov2vits14_gem", "dinov2_vits14_pretrain.pth"),
        ("dinov2vits14reg_cls", "dinov2_vits14_reg4_pretrain.pth"),
        ("dinov3vitb16_cls+mean", "dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth"),
        ("dinov3vits16_cls", "dinov3-vits16-pretrain-lvd1689m/model.safetensors"),
        ("eigenplaces-vgg16", "VGG16_512_eigenplaces.pth"),
        ("torchresnet50_gem", "resnet50-11ad3fa6.pth"),
        ("alexnet_gem", "alexnet-owt-7be5be79.pth"),
    ],
)
def test_a_network_finds_its_file_by_name(network, file, folder):
    with pytest.raises(WeightsNotFoundError, match=f"the weights of .* are missing: .* is not in {folder}"):
        check_weights(network)
    path = folder / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert published_file(network) == path
    check_weights(network)
    assert model_identity(network) == {"name": network, "sha256": hashlib.sha256(b"x").hexdigest()}
    assert named_file(file) == (path if "/" not in file else None)


def test_a_trunk_with_weights_in_keras_needs_no_file(folder):
    assert published_file("vgg16_gem") is None
    assert model_identity("vgg16_gem") == {"name": "vgg16_gem"}
    assert file_in_folder(FILES["alexnet"]) is None
    assert named_file(Path("/nowhere/megaloc.pth")) is None
