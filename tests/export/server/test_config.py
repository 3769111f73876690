"""The configuration of a server: folders, TensorFlow Serving's files, options; and deployments of the real one."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from export.server.batching_parameters import BatchingParameters
from export.server.config import (
    read_batching_parameters,
    read_metrics_path,
    read_model_config,
    read_session_config,
    read_ssl_config,
)
from export.server.metrics import METRICS_PATH
from export.server.options import ServeOptions, served_models
from export.server.serve import serve
from export.server.version_folders import find_models, select_versions, version_folders
from tests.helpers.deadlines import join, wait_until
from tests.helpers.serving_models import Client, save_toy

ROOT = Path(__file__).resolve().parents[3]


def folders(base, *names):
    for name in names:
        (base / name).mkdir(parents=True)
    return base


def test_a_folder_of_models_or_a_model_is_found(tmp_path):
    serving = folders(tmp_path / "serving", "a/1", "b/10", "b/9", "c/notes", "d")
    assert find_models(serving) == {"a": serving / "a", "b": serving / "b"}
    assert find_models(serving, "b") == {"b": serving / "b"}
    assert find_models(serving / "b") == {"b": serving / "b"}
    assert find_models(serving / "b", "other") == {"other": serving / "b"}


@pytest.mark.parametrize(("serving", "name", "message"), [
    ("d", "", "contains no model: it has no version folder such as 1 or NAME/1"),
    (".", "z", "contains no model: it has no version folder such as z/1"),
    ("nowhere", "", "nowhere does not exist"),
    ("file", "", "file is not a folder"),
])  # fmt: skip
def test_a_folder_without_models_is_named(tmp_path, serving, name, message):
    folders(tmp_path, "a/1", "d")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=message):
        find_models(tmp_path / serving, name)


def test_versions_are_numbers(tmp_path):
    base = folders(tmp_path, "2", "10", "007", "1x", "-3", "writing-4", "½", str(2**63))
    (base / "11").write_text("a file")
    assert list(version_folders(base)) == [10, 7, 2]


@pytest.mark.parametrize(("policy", "versions"), [
    ("", [4]),
    ("latest {}", [4]),
    ("latest { num_versions: 2 }", [4, 3]),
    ("all {}", [4, 3, 1]),
    ("specific { versions: 1 versions: 3 versions: 9 }", [3, 1]),
])  # fmt: skip
def test_policies(tmp_path, policy, versions):
    path = tmp_path / "models.config"
    path.write_text(f"""model_config_list {{ config {{
        name: "m" base_path: "/m" model_platform: "tensorflow" model_version_policy {{ {policy} }} }} }}""")
    (model,) = read_model_config(path).model_config_list.config
    found = {number: Path(str(number)) for number in (4, 3, 1)}
    assert list(select_versions(found, model.model_version_policy)) == versions


def test_batching_parameters(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text("""
        max_batch_size { value: 8 } batch_timeout_micros { value: 2000 } max_enqueued_batches { value: 100 }
        num_batch_threads { value: 3 } thread_pool_name { value: "batches" }
        allowed_batch_sizes: 2 allowed_batch_sizes: 8 pad_variable_length_inputs: true""")
    assert read_batching_parameters(path) == BatchingParameters(8, 2000, 100, 3, (2, 8), True, "batches")
    path.write_text("""
        max_batch_size { value: 8 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }
        allowed_batch_sizes: 2 allowed_batch_sizes: 4""")
    assert read_batching_parameters(path).execution_batch_size == 4
    path.write_text("")
    assert read_batching_parameters(path) == BatchingParameters()
    path.write_text("max_batch_size { value: 0 }")
    with pytest.raises(ValueError, match=r"batching.config: max_batch_size must be at least 1, got 0"):
        read_batching_parameters(path)


def test_the_path_of_the_metrics_page(tmp_path):
    path = tmp_path / "monitoring.config"
    for text, metrics in (
        ("prometheus_config { enable: true }", METRICS_PATH),
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ('prometheus_config { path: "/metrics" }', ""),
        ("", ""),
    ):
        path.write_text(text)
        assert read_metrics_path(path) == metrics


UNPARSED = "Error parsing text-format tensorflow.serving"
BAD_FILES = [
    (read_model_config, "model_config_list {", f"file.config: {UNPARSED}.ModelServerConfig: 1:"),
    (read_batching_parameters, "batch_size: 3", f"{UNPARSED}.BatchingParameters: .*batch_size"),
    (read_ssl_config, "\x00", f"{UNPARSED}.SSLConfig: "),
    (read_metrics_path, "enable: true", f"{UNPARSED}.MonitoringConfig: "),
    (read_session_config, "threads: 3", "Error parsing text-format tensorflow.ConfigProto: "),
    (read_ssl_config, 'server_key: "a"', "must contain server_key and server_cert"),
    (read_ssl_config, 'server_key: "a" server_cert: "b" client_verify: true', "client_verify needs custom_ca"),
]


@pytest.mark.parametrize(("read", "text", "message"), BAD_FILES)
def test_files_that_say_nothing_of_use(tmp_path, read, text, message):
    path = tmp_path / "file.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read(path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")


BAD_OPTIONS = [
    ({}, "give SERVING, a folder of models, or --model-config-file"),
    ({"rest_timeout_seconds": 0.0}, "--rest-timeout-seconds must be at least 0.001, got 0.0"),
    ({"file_system_poll_wait_seconds": -1.0}, "--file-system-poll-wait-seconds must be at least 0, got -1.0"),
    ({"max_in_flight": 0}, "--max-in-flight must be at least 1, got 0"),
    ({"photos": "photos"}, "--photos is the folder of --index's photos: give both"),
    ({"index": "index", "photos": "gone"}, "--photos gone does not exist"),
    ({"index": "index", "photos": __file__}, f"--photos {__file__} is not a folder"),
    (
        {"index": "memory://me:secret@bucket/index", "verify": 5},
        "--verify needs --local with the index memory://bucket/index: servers follow an index at an address without",
    ),
    ({"max_message_bytes": 0}, "--max-message-bytes must be at least 1, got 0"),
    ({"serving": "broken"}, "1 servable(s) did not become available: {{{name: toy version: 1} due to error: "),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_that_cannot_be_served_with(tmp_path, options, message):
    (tmp_path / "toy" / "1").mkdir(parents=True)
    folder = {"serving": tmp_path} if options else {}
    with pytest.raises(ValueError, match=re.escape(message)):
        serve(**{**options, **folder}, port=0, rest_port=0)


def test_serve_waits_for_the_first_model_of_a_folder_if_asked(tmp_path):
    options, found, stopped = ServeOptions(tmp_path, wait=True), [], threading.Event()
    thread = threading.Thread(target=lambda: found.append(served_models(options, stopped)))
    thread.start()
    folders(tmp_path, "writing", "m/1")
    join([thread])
    assert [model.name for model in found[0].model_config_list.config] == ["m"]
    (tmp_path / "empty").mkdir()
    stopped.set()
    assert not served_models(ServeOptions(tmp_path / "empty", wait=True), stopped).model_config_list.config
    with pytest.raises(ValueError, match="contains no model"):
        served_models(ServeOptions(tmp_path / "empty"), stopped)


def test_serve_ends_with_sigterm_and_leaves_the_signals_as_they_were(tmp_path, capsys):
    save_toy(tmp_path / "toy" / "1")
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    asked = []

    def ask_and_end():
        try:
            line = wait_until(lambda: capsys.readouterr().out, "serve has printed its ports")
            port, rest_port = (int(part.rpartition(":")[2]) for part in line.strip().split(", "))
            asked.append(Client(port, rest_port).states("toy"))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # so that serve ends in any case

    thread = threading.Thread(target=ask_and_end)
    thread.start()
    serve(tmp_path, port=0, rest_port=0, enable_batching=True)
    join([thread])
    assert asked == [{1: 30}]
    assert "stopping" in capsys.readouterr().out
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers
