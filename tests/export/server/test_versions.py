"""Versions change while clients send requests: policies, labels, hot swaps, partial or broken folders, warm-up."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from export.server import warm_up as warm_up_replay
from export.server.config import model_config
from export.server.errors import ServingError
from export.server.model_registry import ModelRegistry
from tests.helpers.deadlines import join, wait_until
from tests.helpers.serving_models import predict_request, save_toy, serving, write_version, write_warm_up

STATM = Path("/proc/self/statm")
X = {"x": np.ones((1, 2), np.float32)}
AVAILABLE, END = 30, 50


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return save_toy(tmp_path_factory.mktemp("template") / "toy")


@pytest.fixture
def base(tmp_path, template):
    base = tmp_path / "toy"
    base.mkdir()
    write_version(template, base, 1, 1)
    return base


def until(condition, what="the server has reached the expected versions"):
    wait_until(condition, what, seconds=20, step=0.02)


def factor(client, **spec):
    return client.predict(X, **spec)["y"][0, 0]


def config(base, **fields):
    from google.protobuf import text_format

    made = model_config({"toy": base})
    for value in fields.values():
        text_format.Merge(value, made.model_config_list.config[0])
    return made


def reload(client, made):
    from tensorflow_serving.apis import model_management_pb2

    return client.model.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(config=made), timeout=20)


def test_the_newest_version_is_served_and_the_old_one_unloaded(template, base):
    (base / "notes").mkdir()
    (base / "2x").mkdir()
    with serving({"toy": base}) as client:
        assert factor(client) == 1
        write_version(template, base, 3, 3)
        until(lambda: factor(client) == 3)
        until(lambda: client.states("toy") == {3: AVAILABLE, 1: END})
        with pytest.raises(Exception, match=r"Specific\(toy, 1\)"):
            factor(client, version=1)
        shutil.rmtree(base / "3")
        until(lambda: client.states("toy") == {3: END, 1: AVAILABLE})


def test_policies(template, base):
    for number in (2, 3):
        write_version(template, base, number, number)
    with serving({"toy": base}) as client:
        for policy, served in (
            ("latest { num_versions: 2 }", {2, 3}),
            ("all {}", {1, 2, 3}),
            ("specific { versions: 1 versions: 3 versions: 9 }", {1, 3}),
            ("", {3}),
        ):
            made = config(base, policy=f"model_version_policy {{ {policy} }}" if policy else "")
            assert reload(client, made).status.error_code == 0
            assert {number for number, state in client.states("toy").items() if state == AVAILABLE} == served
            assert factor(client) == 3
            assert factor(client, version=max(served)) == 3
            assert all(factor(client, version=number) == number for number in served)


def test_labels(template, base):
    write_version(template, base, 2, 2)
    labels = 'version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 }'
    with serving({"toy": base}) as client:
        reload(client, config(base, policy="model_version_policy { all {} }", labels=labels))
        assert (factor(client, label="stable"), factor(client, label="canary")) == (1, 2)
        path = "/v1/models/toy/labels/stable:predict"
        assert client.rest("POST", path, {"instances": [[1, 1]]}) == (200, {"predictions": [[1, 1]]})
        with pytest.raises(Exception, match="version 7 of model toy, which is not currently available for inference"):
            reload(client, config(base, labels='version_labels { key: "stable" value: 7 }'))


def test_reload_serves_exactly_what_it_says(template, base, tmp_path):
    (tmp_path / "other").mkdir()
    write_version(template, tmp_path / "other", 5, 5)
    with serving({"toy": base}) as client:
        reload(client, model_config({"other": tmp_path / "other"}))
        assert factor(client, model="other") == 5
        with pytest.raises(Exception, match=r"Servable not found for request: Latest\(toy\)"):
            factor(client)
        assert client.states("toy") == {1: END}
        reload(client, model_config({"toy": base, "other": tmp_path / "other"}))
        assert factor(client) == 1


BAD_CONFIGS = [
    ('config { name: "toy" base_path: "toy" model_platform: "tensorflow" }', "to have an absolute path or URI; got"),
    ('config { name: "toy" base_path: "BASE" }', "Illegal setting neither ModelServerConfig::model_type"),
    ('config { name: "toy" base_path: "BASE" model_platform: "onnx" }', "requests unsupported platform onnx"),
    ('config { name: "toy" base_path: "BASE/9" model_platform: "tensorflow" }', "Could not find base path"),
    (2 * 'config { name: "toy" base_path: "BASE" model_platform: "tensorflow" }', "Illegal to list model toy multiple"),
    (None, "ServerModelConfig type not supported by HandleReloadConfigRequest."),
]


@pytest.mark.parametrize(("models", "message"), BAD_CONFIGS)
def test_a_bad_config_changes_nothing(base, models, message):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    made = model_server_config_pb2.ModelServerConfig()
    if models is not None:
        text_format.Parse(f"model_config_list {{ {models.replace('BASE', str(base))} }}", made)
    with serving({"toy": base}) as client:
        with pytest.raises(Exception, match=message):
            reload(client, made)
        assert factor(client) == 1


def test_a_new_model_that_cannot_be_loaded_is_told_and_harms_no_other(base, tmp_path):
    (tmp_path / "broken" / "4").mkdir(parents=True)
    with serving({"toy": base}) as client:
        with pytest.raises(
            Exception, match=r"1 servable\(s\) did not become available: \{\{\{name: broken version: 4\} due to"
        ):
            reload(client, model_config({"toy": base, "broken": tmp_path / "broken"}))
        assert factor(client) == 1
        assert client.states("broken") == {4: END}
    with pytest.raises(ServingError, match=r"1 servable\(s\) did not become available: "):
        ModelRegistry().configure(model_config({"broken": tmp_path / "broken"}))


def truncate(name):
    def harm(folder):
        (path,) = folder.glob(name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return harm


def flip(name):
    def harm(folder):
        (path,) = folder.glob(name)
        data = bytearray(path.read_bytes())
        data[0] ^= 255
        path.write_bytes(data)

    return harm


HARM = {
    "no saved_model.pb": lambda folder: (folder / "saved_model.pb").unlink(),
    "half a saved_model.pb": truncate("saved_model.pb"),
    "no variables": lambda folder: shutil.rmtree(folder / "variables"),
    "half of the weights": truncate("variables/variables.data*"),
    "a bit of the weights": flip("variables/variables.data*"),
    "a bit of the index": flip("variables/variables.index"),
    "no tag": lambda folder: (folder / "saved_model.pb").write_bytes(b""),
    "warm-up of another model": lambda folder: write_warm_up(folder, [record("z")]),
    "warm-up that is no request": lambda folder: write_warm_up(folder, [b"\xff\xff"]),
    "half a warm-up": lambda folder: [harm(folder) for harm in (warm_up_with_x, truncate("assets.extra/tf_*"))],
}


def warm_up_with_x(folder):
    write_warm_up(folder, [record("x")])


def record(alias):
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request({alias: X["x"]}))
    return log.SerializeToString()


@pytest.mark.parametrize("harm", HARM.values(), ids=HARM)
def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(template, base, tmp_path, harm):
    folder = write_version(template, tmp_path, 2, 2)
    harm(folder)
    with serving({"toy": base}) as client:
        shutil.copytree(folder, base / "writing")
        (base / "writing").rename(base / "2")
        until(lambda: client.states("toy").get(2) == END)
        status, document = client.rest("GET", "/v1/models/toy/versions/2")
        assert status == 200
        assert document["model_version_status"][0]["status"]["error_code"] != "OK"
        assert document["model_version_status"][0]["status"]["error_message"]
        assert [factor(client) for _ in range(20)] == [1] * 20
        assert client.states("toy") == {2: END, 1: AVAILABLE}


def test_a_version_that_is_still_written_is_loaded_when_it_is_whole(template, base):
    with serving({"toy": base}) as client:
        whole = write_version(template, base.parent, 2, 2)
        (base / "2").mkdir()
        until(lambda: client.states("toy").get(2) == END)
        for part in ("variables", "assets", "fingerprint.pb", "saved_model.pb"):
            (whole / part).rename(base / "2" / part)
            time.sleep(0.1)
        until(lambda: factor(client) == 2)


def test_warm_up_records_are_run_before_the_version_answers(template, base, monkeypatch):
    ran = []
    answer = warm_up_replay.ANSWERS["predict_log"]
    monkeypatch.setitem(warm_up_replay.ANSWERS, "predict_log", lambda *given: ran.append(given[1]) or answer(*given))
    write_warm_up(base / "1", [record("x")] * 3)
    with serving({"toy": base}):
        assert len(ran) == 3
    write_warm_up(base / "1", [record("x")] * 1001)
    with (
        pytest.raises(ServingError, match=r"Number of warmup records exceeds the maximum \(1000\)"),
        serving({"toy": base}),
    ):
        pass


def test_ten_hot_swaps_under_eight_clients(template, base):
    """No request fails, and an answer is of one version: y = version * x."""
    failures, answers, stop = [], [], threading.Event()

    def ask(client, rest):
        import tensorflow as tf

        while not stop.is_set():
            try:
                if rest:
                    status, document = client.rest("POST", "/v1/models/toy:predict", {"instances": [[1, 1]] * 50})
                    values, version = np.array(document["predictions"]), None
                    assert status == 200
                else:
                    request = predict_request({"x": np.ones((50, 2), np.float32)})
                    response = client.prediction.Predict(request, timeout=20)
                    values, version = tf.make_ndarray(response.outputs["y"]), response.model_spec.version.value
                assert values.min() == values.max() == (version or values.max())
                answers.append(values.max())
            except Exception as error:
                failures.append(error)

    with serving({"toy": base}) as client:
        threads = [threading.Thread(target=ask, args=(client, number < 2)) for number in range(8)]
        for thread in threads:
            thread.start()
        for number in range(2, 12):
            write_version(template, base, number, number)
            until(lambda number=number: client.states("toy").get(number) == AVAILABLE)
        until(lambda: list(client.states("toy").values()).count(AVAILABLE) == 1)
        stop.set()
        join(threads)
        assert not failures
        assert len(answers) > 100
        assert set(answers) <= set(range(1, 12))
        assert len(set(answers)) > 5
        assert factor(client) == 11


@pytest.mark.skipif(not STATM.exists(), reason="the size of the process is read from /proc")
def test_memory_of_versions_that_have_gone_is_given_back(tmp_path):
    """Versions of 40 MB each come and go: the process does not grow by them."""
    base = tmp_path / "toy"
    base.mkdir()
    template = save_toy(tmp_path / "template", megabytes=40)
    write_version(template, base, 1, 1)
    with serving({"toy": base}) as client:
        sizes = []
        for number in range(2, 10):
            write_version(template, base, number, number)
            until(
                lambda number=number: client.states("toy") == dict.fromkeys(range(1, number), END) | {number: AVAILABLE}
            )
            sizes.append(_resident())
            shutil.rmtree(base / str(number - 1))
    assert max(sizes[4:]) - sizes[1] < 60e6


def _resident():
    return int(STATM.read_text().split()[1]) * 4096
