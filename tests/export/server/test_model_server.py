"""The command line of TensorFlow Serving: its flags, what each sets, how the server starts, waits and refuses."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from export.server.batching_parameters import BatchingParameters
from export.server.config import model_config
from export.server.errors import Code, ServingError
from export.server.loading import LoadSettings
from export.server.model_registry import ModelRegistry
from export.server.model_server import NAME, follow_config, main, real_server, server_settings
from export.server.model_server_flags import FLAGS, THREADS, Use, parse_flags
from export.server.tensor_proto import from_proto, to_proto
from tests.helpers.deadlines import join, wait_until
from tests.helpers.serving_models import Client, save_toy, serving

ROOT = Path(__file__).resolve().parents[3]

# Of tensorflow_serving/model_servers/main.cc, in its order.
FLAGS_THERE = """
    port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support
    enable_batching allow_version_labels_for_unavailable_models batching_parameters_file
    enable_per_model_batching_parameters model_config_file model_config_file_poll_wait_seconds model_name
    model_base_path num_load_threads num_unload_threads max_num_load_retries load_retry_interval_micros
    file_system_poll_wait_seconds flush_filesystem_caches tensorflow_session_parallelism
    tensorflow_session_config_file tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism
    use_alts_credentials ssl_config_file platform_config_file per_process_gpu_memory_fraction saved_model_tags
    grpc_channel_arguments grpc_max_threads enable_model_warmup num_request_iterations_for_warmup version
    monitoring_config_file remove_unused_fields_from_bundle_metagraph prefer_tflite_model num_tflite_pools
    num_tflite_interpreters_per_pool enable_signature_method_name_check xla_cpu_compilation_enabled
    xla_gpu_compilation_enabled enable_profiler thread_pool_factory_config_file mixed_precision skip_initialize_tpu
    enable_grpc_healthcheck_service enable_serialization_as_tensor_content"""
NAMES = FLAGS_THERE.split()


def test_all_flags_are_known():
    assert len(NAMES) == 48
    assert {flag.name for flag in FLAGS} == {*NAMES, "use_tflite_model"}


@pytest.mark.parametrize(("arguments", "values", "unknown", "errors"), [
    (["--port=1", "--port=2"], {"port": 2}, [], []),
    (["--enable_batching"], {"enable_batching": True}, [], []),
    (["--enable_batching=true", "--enable_model_warmup=false"],
     {"enable_batching": True, "enable_model_warmup": False}, [], []),
    (["--model_name="], {"model_name": ""}, [], []),
    (["--model_name=a=b"], {"model_name": "a=b"}, [], []),
    (["--load_retry_interval_micros=-1", "--per_process_gpu_memory_fraction=0.5"],
     {"load_retry_interval_micros": -1, "per_process_gpu_memory_fraction": 0.5}, [], []),
    (["--port", "8500"], {"port": 8500}, ["--port", "8500"], []),
    (["--prt=1", "--rest-api-port=3", "-port=2"], {}, ["--prt=1", "--rest-api-port=3", "-port=2"], []),
    (["--port=1", "--", "--port=2"], {"port": 1}, ["--", "--port=2"], []),
    (["--port=x"], {}, [], ["Couldn't interpret value x for flag port."]),
    (["--port=2147483648"], {}, [], ["Couldn't interpret value 2147483648 for flag port."]),
    (["--port=1_0"], {}, [], ["Couldn't interpret value 1_0 for flag port."]),
    (["--port="], {}, [], ["Couldn't interpret value  for flag port."]),
    (["--enable_batching=1"], {}, [], ["Couldn't interpret value =1 for flag enable_batching."]),
    (["--enable_batching_now"], {}, [], ["Couldn't interpret value _now for flag enable_batching."]),
    (["--version=", "--model_names=m"], {}, ["--model_names=m"], ["Couldn't interpret value = for flag version."]),
])  # fmt: skip
def test_flags_are_parsed_as_there(arguments, values, unknown, errors):
    parsed = parse_flags(arguments)
    assert {name: parsed.values[name] for name in values} == values
    assert (parsed.unknown, parsed.errors) == (unknown, errors)


DEPLOYED = [
    "--port=8500 --rest_api_port=8501 --model_name=model --model_base_path=/models/model",  # the official image
    "--port=8500 --rest_api_port=8501 --model_config_file=/m.config --model_config_file_poll_wait_seconds=60 "
    "--enable_batching=true --batching_parameters_file=/b.config --monitoring_config_file=/monitoring.config",
    "--rest_api_port=8501 --grpc_channel_arguments=grpc.max_concurrent_streams=100 --max_num_load_retries=0 "
    "--tensorflow_session_parallelism=8 --per_process_gpu_memory_fraction=0.5 --flush_filesystem_caches=false",
    *(
        " ".join(re.findall(r"^ *- (--\S+)", (ROOT / "export/containers" / file).read_text(), re.MULTILINE))
        for file in ("docker-compose.yml", "kubernetes/tensorflow-serving.yaml")
    ),
]


@pytest.mark.parametrize("command", DEPLOYED)
def test_command_lines_of_deployments_are_taken(command):
    parsed = parse_flags(command.split())
    assert len(parsed.given) == len(command.split()) > 3
    assert (parsed.unknown, parsed.errors, parsed.refused) == ([], [], [])


def files(folder):
    texts = {
        "batching": "max_batch_size { value: 7 }",
        "monitoring": 'prometheus_config { enable: true path: "/m" }',
        "ssl": 'server_key: "k" server_cert: "c"',
        "session": "intra_op_parallelism_threads: 3",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)


# flag -> (arguments, what they set, its value); FILES is a folder with the files above
SERVED = {
    "port": ("--port=7", "port", 7),
    "grpc_socket_path": ("--port=0 --grpc_socket_path=/s", "port grpc_socket", (None, "/s")),
    "rest_api_port": ("--rest_api_port=8", "rest_port", 8),
    "rest_api_num_threads": ("--rest_api_num_threads=3", "rest_threads", 3),
    "rest_api_timeout_in_ms": ("--rest_api_timeout_in_ms=1500", "rest_seconds", 1.5),
    "rest_api_enable_cors_support": ("--rest_api_enable_cors_support", "cors", True),
    "enable_batching": ("--enable_batching", "batching", BatchingParameters()),
    "allow_version_labels_for_unavailable_models": (
        "--allow_version_labels_for_unavailable_models", "labels_of_unavailable", True
    ),
    "batching_parameters_file": (
        "--enable_batching --batching_parameters_file=FILES/batching", "batching.max_batch_size", 7
    ),
    "enable_per_model_batching_parameters": (
        "--enable_batching --enable_per_model_batching_parameters", "loading.batching_by_version", True
    ),
    "max_num_load_retries": ("--max_num_load_retries=2", "loading.retries", 2),
    "load_retry_interval_micros": ("--load_retry_interval_micros=9223372036854775807", "loading.retry_seconds", 1e6),
    "file_system_poll_wait_seconds": ("--file_system_poll_wait_seconds=-1", "poll_seconds", -1),
    "tensorflow_session_parallelism": (
        "--tensorflow_session_parallelism=2",
        "loading.session_config.intra_op_parallelism_threads loading.session_config.inter_op_parallelism_threads",
        (2, 2),
    ),
    "tensorflow_session_config_file": (
        "--tensorflow_session_config_file=FILES/session", "loading.session_config.intra_op_parallelism_threads", 3
    ),
    "tensorflow_intra_op_parallelism": (
        "--tensorflow_intra_op_parallelism=5 --tensorflow_session_parallelism=2",
        "loading.session_config.intra_op_parallelism_threads loading.session_config.inter_op_parallelism_threads",
        (5, 0),
    ),
    "tensorflow_inter_op_parallelism": (
        "--tensorflow_inter_op_parallelism=4", "loading.session_config.inter_op_parallelism_threads", 4
    ),
    "ssl_config_file": ("--ssl_config_file=FILES/ssl", "ssl.server_key rest_tls", ("k", False)),
    "per_process_gpu_memory_fraction": (
        "--per_process_gpu_memory_fraction=0.5",
        "loading.session_config.gpu_options.per_process_gpu_memory_fraction",
        0.5,
    ),
    "saved_model_tags": ("--saved_model_tags=tpu,serve", "loading.tags", ("tpu", "serve")),
    "grpc_channel_arguments": (
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.primary_user_agent=x",
        "grpc_arguments",
        (("grpc.max_connection_age_ms", 2000), ("grpc.primary_user_agent", "x")),
    ),
    "grpc_max_threads": ("--grpc_max_threads=6", "grpc_threads", 6),
    "enable_model_warmup": ("--enable_model_warmup=false", "loading.warm_up_iterations", 0),
    "num_request_iterations_for_warmup": (
        "--num_request_iterations_for_warmup=4", "loading.warm_up_iterations", 4
    ),
    "monitoring_config_file": ("--monitoring_config_file=FILES/monitoring", "metrics_path", "/m"),
    "enable_signature_method_name_check": ("--enable_signature_method_name_check", "check_method_names", True),
    "mixed_precision": (
        "--mixed_precision=bfloat16",
        "loading.session_config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16",
        1,
    ),
    "enable_serialization_as_tensor_content": (
        "--enable_serialization_as_tensor_content", "loading.tensor_content", True
    ),
}  # fmt: skip
IN_OTHER_TESTS = {
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "model_base_path",
    "version",
}


def test_every_served_flag_has_a_test():
    assert {*SERVED, *IN_OTHER_TESTS} == {flag.name for flag in FLAGS if flag.use is Use.SERVED}


@pytest.mark.parametrize("flag", SERVED)
def test_served_flags_set_what_they_say(tmp_path, flag):
    arguments, attributes, value = SERVED[flag]
    files(tmp_path)
    settings = server_settings(parse_flags(arguments.replace("FILES", str(tmp_path)).split()).values)
    found = []
    for attribute in attributes.split():
        part = settings
        for name in attribute.split("."):
            part = getattr(part, name)
        found.append(part)
    assert (tuple(found) if len(found) > 1 else found[0]) == value


def test_defaults_are_those_of_the_real_server():
    settings = server_settings(parse_flags([]).values)
    assert (settings.host, settings.port, settings.rest_port) == ("0.0.0.0", 8500, None)
    assert (settings.rest_threads, settings.grpc_threads, settings.rest_seconds) == (THREADS, THREADS, 30)
    assert (settings.batching, settings.ssl, settings.metrics_path, settings.cors) == (None, None, "", False)
    assert (settings.poll_seconds, settings.wait, settings.check_method_names) == (1, True, False)
    loading = settings.loading
    assert (loading.tags, loading.warm_up_iterations, loading.retries, loading.retry_seconds) == (("serve",), 1, 5, 60)


ENDS = [
    (["--port=x"], 255, "usage: tensorflow_model_server\nFlags:\n\t--port=8500 "),
    (["--help"], 255, "usage: tensorflow_model_server\n"),
    (["--version"], 0, "TensorFlow ModelServer: "),
    ([], 255, "Both server_options.model_base_path and server_options.model_config_file are empty!"),
    (["--port=0", "--model_base_path=/m"], 255, "At least one of server_options.grpc_port or"),
    (["--port=70000", "--model_base_path=/m"], 255, "--port must be 0 to 65535, got 70000"),
    (["--model_base_path=/m", "--batching_parameters_file=/b"], 255, "batching_parameters_file is set without setting"),
    (["--model_config_file=/nowhere"], 255, "Failed to start server. Error: NOT_FOUND: /nowhere; No such file or dir"),
    (["--model_config_file=BAD"], 255, "Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: 'BAD'"),
    (["--model_base_path=m"], 255, "Expected model default to have an absolute path or URI; got base_path()=m"),
    (["--model_base_path=gs://m"], 255, "gs://m is a URI, and only local folders are served"),
    (["--model_base_path=/m", "--grpc_channel_arguments=a"], 255, "must be a list NAME=VALUE,NAME=VALUE, got a"),
    (["--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=1",
      "--tensorflow_inter_op_parallelism=1", "--model_base_path=/m"], 255, "set the first, or the other two"),
    (["--tensorflow_session_parallelism=4294967296", "--model_base_path=/m"], 255, "must be a number of threads, got"),
    (["--tensorflow_session_parallelism=-3", "--model_base_path=/m"], 255, "threads must be 0 or more, got -3"),
    (["--model_base_path=/\udcff"], 255, r"--model_base_path must be UTF-8, got '/\udcff'"),
    *[([f"--{flag.name}{'' if flag.kind == 'bool' else '=/f'}", "--model_base_path=/m"], 255,
       f"Error: UNIMPLEMENTED: --{flag.name} is refused: ") for flag in FLAGS if flag.use is Use.REFUSED],
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "status", "text"), ENDS, ids=[" ".join(case[0]) for case in ENDS])
def test_command_lines_that_end_at_once(tmp_path, capsys, caplog, arguments, status, text):
    bad = tmp_path / "bad"
    bad.write_text("model_config_list { confg {} }")
    with pytest.raises(SystemExit) as end:
        main([argument.replace("BAD", str(bad)) for argument in arguments])
    assert end.value.code == status
    assert text.replace("BAD", str(bad)) in capsys.readouterr().out
    if "BAD" in text:
        assert "Error parsing text-format tensorflow.serving.ModelServerConfig: 1:21" in caplog.text


def test_flags_without_effect_are_told_once():
    parsed = parse_flags(["--enable_profiler=true", "--enable_profiler", "--port=1"])
    assert parsed.idle == ["--enable_profiler has no effect: there is no profiler service."]
    assert parse_flags([]).idle == []


def test_the_command_waits_for_a_version_and_says_what_scripts_wait_for(tmp_path):
    port, rest_port = free_ports(2)
    command = [
        *[sys.executable, "-c", "from export.server.model_server import main; main()"],
        *[f"--port={port}", f"--rest_api_port={rest_port}", "--model_name=m", f"--model_base_path={tmp_path / 'm'}"],
        *["--enable_profiler=false", "unknown", "--file_system_poll_wait_seconds=1"],
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=ROOT, stderr=file, stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "(Re-)adding model: m" in log.read_text() or process.poll() is not None, "it waits", 300)
        assert f"Running gRPC ModelServer at 0.0.0.0:{port} ..." not in log.read_text()
        save_toy(tmp_path / "writing")
        (tmp_path / "m").mkdir()
        (tmp_path / "writing").rename(tmp_path / "m" / "3")
        wait_until(lambda: "Exporting HTTP/REST API" in log.read_text() or process.poll() is not None, "it serves", 300)
        text = log.read_text()
        for line in (
            "--enable_profiler has no effect: ",
            "Successfully loaded servable version {name: m version: 3}",
            f"Running gRPC ModelServer at 0.0.0.0:{port} ...",
            f"Exporting HTTP/REST API at:localhost:{rest_port} ...",
        ):
            assert text.count(line) == 1, text
        client = Client(port, rest_port)
        assert client.rest("POST", "/v1/models/m:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [[2, 4]]})
        assert client.predict({"x": np.ones((1, 2), np.float32)}, model="m")["y"].tolist() == [[2, 2]]
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert out.startswith("unknown argument: unknown\nusage: ")
    finally:
        process.kill()
        process.wait()


def free_ports(count):
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def loaded(path, name, version):
    """Stands for a loaded version."""
    return SimpleNamespace(path=path, acquire=lambda: None, release=lambda: None, closed=threading.Event())


def registry(read=loaded, **settings):
    poll = settings.pop("poll_seconds", 0.02)
    labels = settings.pop("labels_of_unavailable", False)
    return ModelRegistry(poll, read=read, loading=LoadSettings(warm_up_iterations=0, **settings),
                         labels_of_unavailable=labels)  # fmt: skip


def test_a_model_without_folder_is_waited_for(tmp_path):
    models, stopped = registry(), threading.Event()
    thread = threading.Thread(target=models.configure, args=(model_config({"m": tmp_path / "m"}), stopped))
    thread.start()
    wait_until(lambda: models.names() == ["m"], "the model is configured")
    assert thread.is_alive()
    assert not models.ready()
    (tmp_path / "m" / "4").mkdir(parents=True)
    join([thread])
    assert models.ready()
    models.stop()


def test_waiting_ends_when_the_server_is_to_stop(tmp_path):
    for models in (registry(), registry(poll_seconds=-1)):
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(ServingError, match="Stopped before model m had a version"):
            models.configure(model_config({"m": tmp_path / "m"}), stopped)
        models.stop()


def failing(times):
    tries = []

    def read(path, name, version):
        tries.append(version)
        if len(tries) <= times:
            raise ServingError(Code.UNAVAILABLE, "the disk is away")
        return loaded(path, name, version)

    return read, tries


def test_loading_is_tried_again(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    read, tries = failing(2)
    models = registry(read, retries=2, retry_seconds=0.01, poll_seconds=0)
    models.configure(model_config({"m": tmp_path / "m"}))
    assert tries == [1, 1, 1]
    assert models.ready()
    models.stop()


def test_after_the_last_try_the_reason_is_told(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    read, tries = failing(9)
    models = registry(read, retries=1, retry_seconds=-1)
    message = "1 servable(s) did not become available: {{{name: m version: 1} due to error: UNAVAILABLE: the disk is"
    with pytest.raises(ServingError, match=re.escape(f"{message} away}}, }}")):
        models.configure(model_config({"m": tmp_path / "m"}), threading.Event())
    assert tries == [1, 1]
    models.stop()


def test_labels_of_versions_that_are_not_available(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    config = model_config({"m": tmp_path / "m"})
    config.model_config_list.config[0].version_labels["next"] = 9
    refused = "Request to assign label to version 9 of model m, which is not currently available for inference"
    strict, generous = registry(), registry(labels_of_unavailable=True)
    with pytest.raises(ServingError, match=refused):
        strict.configure(config)
    generous.configure(config)
    with pytest.raises(ServingError, match=refused):
        generous.configure(config)  # the label is in use now
    for models in (strict, generous):
        models.stop()


def test_a_config_file_is_followed(tmp_path, caplog):
    path, stopped, seen = tmp_path / "models.config", threading.Event(), []
    steps = iter(["model_config_list {}", "broken", "broken", "model_config_list {}"])
    path.write_text(next(steps))

    def change():
        text = next(steps, None)
        stopped.set() if text is None else path.write_text(text)

    class Stopping:
        """An event on which waiting takes no time and changes the file."""

        def wait(self, seconds):
            assert seconds == 5
            if rounds:
                change()
            rounds.append(1)
            return stopped.is_set()

    rounds = []
    server = SimpleNamespace(reconfigure=lambda config: seen.append(config) or refuse(len(seen)))

    def refuse(count):
        if count == 2:
            raise ServingError(Code.INVALID_ARGUMENT, "no")

    follow_config(server, path, 5, Stopping())
    assert len(seen) == 2
    assert caplog.text.count("Failed to read ModelServerConfig file: ") == 1
    assert caplog.text.count("PollFilesystemAndReloadConfig failed to ReloadConfig: no") == 1


def test_versions_bring_their_own_batching_parameters_and_large_requests_are_split(tmp_path, monkeypatch):
    from export.server.servable import Servable

    base, runs, run = tmp_path / "toy", [], Servable.run
    save_toy(base / "1")
    (base / "1" / "batching_params.pbtxt").write_text(
        "max_batch_size { value: 8 } enable_large_batch_splitting { value: true } max_execution_batch_size { value: 3 }"
    )
    monkeypatch.setattr(
        Servable, "run", lambda self, feeds, *rest: runs.append(len(*feeds.values())) or run(self, feeds, *rest)
    )
    rows = {"x": np.arange(16, dtype=np.float32).reshape(8, 2)}
    own = LoadSettings(batching_by_version=True)
    with serving({"toy": base}, batching=BatchingParameters(max_batch_size=1), loading=own, cors=True) as client:
        np.testing.assert_array_equal(client.predict(rows)["y"], 2 * rows["x"])
        assert sorted(runs) == [2, 3, 3]
        with pytest.raises(Exception, match="Task size 9 is larger than maximum input batch size 8"):
            client.predict({"x": np.ones((9, 2), np.float32)})
    (base / "1" / "batching_params.pbtxt").unlink()
    runs.clear()
    with serving({"toy": base}, batching=BatchingParameters(max_batch_size=1), loading=own) as client:
        client.predict(rows)
    assert runs == [8]


def test_a_socket_in_place_of_a_port(tmp_path):
    import grpc

    save_toy(tmp_path / "toy" / "1")
    path = tmp_path / "socket"
    with serving({"toy": tmp_path / "toy"}, port=None, rest_port=None, grpc_socket=str(path)) as client:
        assert (client.port, client.rest_port) == (0, 0)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert Client(0, 0, channel).states("toy") == {1: 30}


@pytest.mark.parametrize("array", [
    np.array([[1, 2]], np.float32), np.array([3], np.int64), np.array([True, False]), np.array([1], np.float16),
    np.array([1j], np.complex64), np.array([b"a\0", b"", b"x" * 300], object), np.zeros((0, 2), np.float32),
], ids=["float", "int", "bool", "half", "complex", "strings", "empty"])  # fmt: skip
def test_tensors_as_content_come_back(array):
    proto = to_proto(array, tensor_content=True)
    assert len(proto.ListFields()) == (3 if array.size else 2)  # dtype, shape and content
    np.testing.assert_array_equal(from_proto(proto, "x"), array)


def test_the_real_server_is_preferred_where_path_has_one(tmp_path, monkeypatch):
    folders = [tmp_path / name for name in ("ours", "other environment", "empty", "real", "later")]
    for folder, text in zip(folders, ["from keras_retrieval", "keras_retrieval", None, "\x7fELF", "x"], strict=True):
        folder.mkdir()
        if text:
            (folder / NAME).write_text(text)
            (folder / NAME).chmod(0o755)
    path = os.pathsep.join(map(str, folders))
    assert real_server(path, folders[0] / NAME) == str(folders[3] / NAME)
    assert real_server(os.pathsep.join(map(str, folders[:3])), folders[0] / NAME) is None
    monkeypatch.chdir(folders[3])
    assert real_server(os.pathsep.join(["", ".", "../" + folders[3].name]), folders[0] / NAME) is None
