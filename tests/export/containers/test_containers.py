"""The Dockerfile, compose files and manifests are held to linters, and to the steps, ports and paths that they name."""

import fnmatch
import functools
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import keras_retrieval
from docs.extensions.commands import command_of
from export.http.bodies import BodyLimits
from export.http.http_server import HttpServer
from export.http.messages import Response
from export.index_contract.index_settings import IndexSettings
from export.search_page.catalogue import Catalogue
from export.search_page.routes import SearchPage
from export.search_page.source import Status
from export.server.metrics import METRICS_PATH
from export.server.serve import serve
from export.server.server import ServerSettings
from export.server.version_folders import find_models
from tests.helpers.deadlines import wait_until
from tests.helpers.small_collection import write_photo

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "export" / "containers"
COMPOSE = FOLDER / "docker-compose.yml"
GPU = FOLDER / "docker-compose.gpu.yml"
KUBERNETES = FOLDER / "kubernetes"
YAML = sorted(KUBERNETES.rglob("*.yaml"))
OVERLAYS = sorted(path.parent for path in YAML if path.name == "kustomization.yaml")
MANIFESTS = [*sorted(KUBERNETES.glob("*.yaml")), KUBERNETES / "serve" / "serve.yaml"]
OURS = f"keras-retrieval:{keras_retrieval.__version__}"
YAMLLINT = """
extends: default
rules:
  line-length: {max: 125}
  document-start: disable
  comments: {min-spaces-from-content: 1}
  braces: {max-spaces-inside: 0}
"""


def environment(text):
    """A compose file's text with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


@functools.cache
def services():
    return yaml.safe_load(environment(COMPOSE.read_text("utf-8")))["services"]


@functools.cache
def documents():
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text("utf-8"))]


def of_kind(kind):
    return {document["metadata"]["name"]: document for document in documents() if document["kind"] == kind}


def pods():
    return {name: item["spec"]["template"]["spec"] for name, item in of_kind("Deployment").items()}


def container(name):
    (found,) = pods()[name]["containers"]
    return found


@functools.cache
def instructions():
    """The instructions of the Dockerfile: (name, text), with continued lines joined."""
    lines = [
        line for line in (FOLDER / "Dockerfile").read_text("utf-8").split("\n") if not line.lstrip().startswith("#")
    ]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(None, 1)) for line in text.split("\n") if line.strip()]


def instruction(name):
    """The last instruction of a name, which is that of the image."""
    return [text for found, text in instructions() if found == name][-1]


def variables():
    """The environment variables of the image."""
    return dict(word.split("=", 1) for word in shlex.split(instruction("ENV")))


HEALTH = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
IMAGE = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))


def command_lines():
    """Every command of ours that a container runs, and what is mounted or made in it."""
    entry = json.loads(instruction("ENTRYPOINT"))
    made = {"/photos", "/weights", "/index", "/models", "/state"}
    yield "Dockerfile", IMAGE, made, {}
    for name, service in services().items():
        if service["image"] == OURS:
            mounts = {volume["target"] for volume in service["volumes"]}
            yield f"compose {name}", entry + service["command"], mounts, service.get("environment", {})
    for name in pods():
        if container(name)["image"] == OURS:
            mounts = {mount["mountPath"] for mount in container(name)["volumeMounts"]}
            values = {item["name"]: item["value"] for item in container(name).get("env", [])}
            yield f"kubernetes {name}", entry + container(name)["args"], mounts, values


COMMANDS = list(command_lines())


def options_of(words):
    """The values of the options and arguments of a command line, as its step parses them."""
    assert words[0] == "keras-retrieval"
    return command_of(words[1]).make_context(words[1], list(words[2:])).params


def ports_of(words):
    options = options_of(words)
    return {options[name] for name in ("port", "rest_port") if name in options}


# -- linters


def run(*command):
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_hadolint_and_shellcheck_find_nothing_in_the_dockerfile():
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    run(hadolint, "--failure-threshold", "style", FOLDER / "Dockerfile")


def test_compose_files_fit_the_schema():
    pytest.importorskip("check_jsonschema")
    run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE, GPU)


@pytest.mark.parametrize(
    "path", [*MANIFESTS, KUBERNETES / "serve-by-queue" / "autoscaler.yaml"], ids=lambda path: path.stem
)
def test_manifests_fit_the_schema_of_kubernetes(path):
    validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all(path.read_text("utf-8")):
        validate.validate(document, validate.latest_version(), strict=True)


@functools.cache
def overlaid(folder):
    """The documents of an overlay, by kind and name, as kubectl applies them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    found = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return {(item["kind"], item["metadata"]["name"]): item for item in yaml.safe_load_all(found.stdout)}


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda path: path.name)
def test_overlays_fit_the_schema_of_kubernetes(folder):
    validate = pytest.importorskip("kubernetes_validate")
    base = {(item["kind"], item["metadata"]["name"]) for item in yaml.safe_load_all(MANIFESTS[-1].read_text("utf-8"))}
    assert overlaid(folder).keys() == base
    for document in overlaid(folder).values():
        validate.validate(document, validate.latest_version(), strict=True)


def test_the_autoscaler_reads_a_metric_that_the_server_has():
    from export.server.metrics import OWN, QUEUE_LENGTH

    (metric,) = of_file("serve-by-queue/autoscaler.yaml")["spec"]["metrics"]
    (rule,) = of_file("serve-by-queue/prometheus-adapter-values.yaml")["rules"]["custom"]
    assert QUEUE_LENGTH in OWN
    assert metric["pods"]["metric"]["name"] == rule["name"]["matches"] == QUEUE_LENGTH
    assert rule["seriesQuery"].partition("{")[0] == QUEUE_LENGTH
    scaler = overlaid(KUBERNETES / "serve-gpu")["HorizontalPodAutoscaler", "serve"]
    assert scaler["spec"]["metrics"] == [metric]
    deployment = overlaid(KUBERNETES / "serve-by-queue")["Deployment", "serve"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == METRICS_PATH


def test_the_gpu_variant_is_the_same_server_with_a_gpu():
    pod = overlaid(KUBERNETES / "serve-gpu")["Deployment", "serve"]["spec"]["template"]["spec"]
    (mine,) = pod["containers"]
    assert mine["image"] == f"{OURS}-gpu"
    assert mine["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for entry in ("args", "ports", "volumeMounts", "readinessProbe", "livenessProbe", "securityContext"):
        assert mine[entry] == container("serve")[entry]
    assert {item["name"] for item in container("serve")["env"]} < {item["name"] for item in mine["env"]}


def of_file(name):
    return yaml.safe_load((KUBERNETES / name).read_text("utf-8"))


@pytest.mark.parametrize("path", [COMPOSE, GPU, *YAML], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_yamllint_finds_nothing(path):
    linter, config = pytest.importorskip("yamllint.linter"), pytest.importorskip("yamllint.config")
    assert not list(linter.run(path.read_text("utf-8"), config.YamlLintConfig(YAMLLINT)))


# -- what is named exists


@pytest.mark.parametrize(("place", "words", "mounts", "_"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_commands_are_taken_by_their_step_and_name_folders_of_the_container(place, words, mounts, _):
    options = options_of(words)
    assert options["host"] == "0.0.0.0"
    paths = [str(value) for value in options.values() if str(value).startswith("/") and value != "/"]
    assert len(paths) >= 2
    assert [path for path in paths if not any(path == mount or path.startswith(f"{mount}/") for mount in mounts)] == []


def test_ports_are_those_of_the_commands():
    exposed = {int(port) for port in instruction("EXPOSE").split()}
    assert exposed == ports_of(IMAGE) | {ServerSettings().port, ServerSettings().rest_port}
    for name, service in services().items():
        published = {int(port.rpartition(":")[2]) for port in service["ports"]}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        if service["image"] == OURS:
            assert published == ports_of(["keras-retrieval", *service["command"]]), name
    for name, service in of_kind("Service").items():
        if service["spec"].get("clusterIP") == "None":
            continue  # of clients that balance, for gRPC alone
        ports = {port["name"]: port["containerPort"] for port in container(name)["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
        labels = of_kind("Deployment")[name]["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"] == labels == of_kind("Deployment")[name]["spec"]["selector"]["matchLabels"]
        if container(name)["image"] == OURS:
            assert set(ports.values()) == ports_of(["keras-retrieval", *container(name)["args"]])


@pytest.mark.parametrize(("place", "words", "_", "values"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_the_health_check_reads_the_port_of_the_command(place, words, _, values):
    if place.startswith("kubernetes"):
        return  # kubelet's probes replace it
    url = (variables() | values)["HEALTH_URL"]
    options = options_of(words)
    assert url == f"http://127.0.0.1:{options.get('rest_port', options['port'])}/status.json"


def test_probes_ask_ports_and_paths_that_are_there():
    for name in pods():
        ports = {port["name"] for port in container(name)["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            (probe,) = [container(name)[kind][key] for key in ("httpGet", "tcpSocket") if key in container(name)[kind]]
            assert probe["port"] in ports
            known = {"/v1/models/retrieval"} if name == "tensorflow-serving" else {"/healthz"}
            if (name, kind) == ("serve", "readinessProbe"):
                known = {"/readyz"}
            assert probe.get("path") in known | ({None} if kind == "livenessProbe" else set())


def test_images_are_pinned_to_this_version():
    setup = (ROOT / "setup.py").read_text("utf-8")
    (serving,) = re.findall(r"tensorflow-serving-api~=(\d+\.\d+)\.", setup)
    (lowest, highest) = re.findall(r'python_requires=">=3\.(\d+),<3\.(\d+)"', setup)[0]
    images = [service["image"] for service in services().values()] + [container(name)["image"] for name in pods()]
    assert {image.partition(":")[0] for image in images} == {"keras-retrieval", "tensorflow/serving"}
    for image in images:
        assert image == OURS or re.fullmatch(rf"tensorflow/serving:{re.escape(serving)}\.\d+", image), image
    gpu = yaml.safe_load(GPU.read_text("utf-8"))["services"]
    assert {service["image"] for service in gpu.values()} == {f"{OURS}-gpu"}
    assert {name for name, service in services().items() if service["image"] == OURS} == set(gpu)
    python = re.fullmatch(r"PYTHON=3\.(\d+)\.\d+-slim-\w+", first_argument())
    assert python, first_argument()
    assert int(lowest) <= int(python[1]) < int(highest)
    assert f"--tag {OURS} ." in (FOLDER / "Dockerfile").read_text("utf-8")


def first_argument():
    return next(text for name, text in instructions() if name == "ARG")


def test_the_build_copies_what_the_wheel_is_made_of(monkeypatch):
    """All sources exist and are sent to the builder; the extras are those of setup.py."""
    copied = [
        word for name, text in instructions() if name == "COPY" and "--from" not in text for word in text.split()[:-1]
    ]
    rules = [
        line
        for line in (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").split("\n")
        if line[:1] not in ("", "#")
    ]
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name.partition('/')[0]}" in rules
    assert rules[0] == "*"
    ignored = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    assert any(fnmatch.fnmatch("__pycache__", rule) for rule in ignored)
    assert {"keras_retrieval", "pipelines", "export"} <= set(copied)
    given = {}
    monkeypatch.setattr("setuptools.setup", lambda **facts: given.update(facts))
    runpy.run_path(str(ROOT / "setup.py"))
    (extras,) = [text.removeprefix("EXTRAS=") for name, text in instructions() if name == "ARG" and "EXTRAS" in text]
    assert {*extras.split(","), "gpu"} <= set(given["extras_require"])


def test_volumes_exist():
    claims = of_kind("PersistentVolumeClaim")
    for name, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container(name)["volumeMounts"]} == set(volumes)
        named = {
            volume["persistentVolumeClaim"]["claimName"]
            for volume in volumes.values()
            if "persistentVolumeClaim" in volume
        }
        assert named <= set(claims)
    compose = yaml.safe_load(environment(COMPOSE.read_text("utf-8")))
    named = {
        volume["source"]
        for service in compose["services"].values()
        for volume in service["volumes"]
        if volume["type"] == "volume"
    }
    assert named == set(compose["volumes"])


# -- rights


def test_the_image_runs_without_root_and_keeps_no_cache():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))
    assert json.loads(instruction("ENTRYPOINT")) == ["keras-retrieval"]  # exec form: it gets the signals
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert json.loads(instruction("VOLUME")) == ["/state"]
    assert any("PIP_NO_CACHE_DIR=1" in text for name, text in instructions() if name == "ENV")
    assert sum(name == "FROM" for name, _ in instructions()) == 2
    last = max(number for number, (name, _) in enumerate(instructions()) if name == "FROM")
    assert not any("pip" in text or "apt" in text for name, text in instructions()[last:] if name == "RUN")


def test_services_have_no_rights_that_they_do_not_need():
    for name, service in services().items():
        assert service["read_only"], name
        assert service["init"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"] == instruction("USER"), name
        assert service["deploy"]["resources"]["limits"]["memory"], name
        written = [volume["target"] for volume in service["volumes"] if not volume.get("read_only")]
        assert written == (["/state"] if name == "app" else [])
        binds = [volume for volume in service["volumes"] if volume["type"] == "bind"]
        assert all(volume["bind"] == {"create_host_path": False} for volume in binds)


def test_pods_have_no_rights_that_they_do_not_need():
    user, group = map(int, instruction("USER").split(":"))
    for name, pod in pods().items():
        rights, mine = pod["securityContext"], container(name)["securityContext"]
        assert (rights["runAsNonRoot"], rights["runAsUser"], rights["runAsGroup"]) == (True, user, group)
        assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert mine == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        resources = container(name)["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}
        written = {mount["name"] for mount in container(name)["volumeMounts"] if not mount.get("readOnly")}
        assert written <= {"state", "tmp", "cache"}
        assert pod["terminationGracePeriodSeconds"] > 30


def test_clients_reach_each_pod_that_is_ready():
    service, balanced = of_kind("Service")["serve-grpc"]["spec"], of_kind("Service")["serve"]["spec"]
    assert service["clusterIP"] == "None"
    assert service["selector"] == balanced["selector"]
    assert service["ports"] == [port for port in balanced["ports"] if port["name"] == "grpc"]
    assert "publishNotReadyAddresses" not in service
    options = options_of(["keras-retrieval", *container("serve")["args"]])
    assert 0 < options["reconnect_seconds"] <= 300  # by which new pods get requests
    assert 0 < options["reload_within"] <= 60 * IndexSettings().grace / 2


def test_one_process_writes_the_state_and_servers_scale():
    app = of_kind("Deployment")["app"]["spec"]
    assert app["replicas"] == 1
    assert app["strategy"] == {"type": "Recreate"}
    assert "state" not in {
        mount["name"] for name in pods() if name != "app" for mount in container(name)["volumeMounts"]
    }
    scalers = [item["spec"] for item in of_kind("HorizontalPodAutoscaler").values()]
    assert [spec["scaleTargetRef"]["name"] for spec in scalers] == ["serve"]
    assert "replicas" not in of_kind("Deployment")["serve"]["spec"]
    assert scalers[0]["minReplicas"] > of_kind("PodDisruptionBudget")["serve"]["spec"]["maxUnavailable"]
    threads = {item["name"]: item["value"] for item in container("serve")["env"]}["TF_NUM_INTRAOP_THREADS"]
    assert threads == container("serve")["resources"]["requests"]["cpu"]


# -- health


class Source:
    """A collection without photos, in a given state."""

    def __init__(self, folder, state):
        self.folder, self._state, self._catalogue = folder, state, Catalogue([], version="1")

    def catalogue(self):
        return self._catalogue

    def status(self):
        return Status(state=self._state)

    def index(self):
        return None

    def left_out(self):
        return {}


def check(url, **variables):
    """The exit status of the image's health check; a proxy that does not exist must not matter."""
    assert HEALTH[:2] == ["python", "-Ic"]
    environment = {**os.environ, "HEALTH_URL": url, "http_proxy": "http://127.0.0.1:9", **variables}
    return subprocess.run([sys.executable, *HEALTH[1:]], env=environment, capture_output=True, check=False).returncode


@pytest.fixture
def serving():
    servers = []

    def start(answer):
        servers.append(
            HttpServer(answer, host="127.0.0.1", port=0, threads=2, most_requests=8, limits=BodyLimits(2**10))
        )
        return f"http://127.0.0.1:{servers[-1].port}/status.json"

    yield start
    for server in servers:
        server.stop(0)


@pytest.mark.parametrize(("state", "healthy"), [("working", True), ("ready", True), ("failed", False)])
def test_the_health_check_reads_the_state_of_a_page(serving, tmp_path, state, healthy):
    page = SearchPage(Source(tmp_path, state))
    assert (check(serving(page.answer)) == 0) is healthy
    page.close()


def test_the_health_check_fails_without_an_answer(serving):
    assert check(serving(lambda request: Response(500, "{}"))) != 0
    assert check(serving(lambda request: Response(200, "<h1>other</h1>"))) != 0
    url = serving(lambda request: Response(200, "{}"))
    assert check(url) == 0
    assert check(re.sub(r":\d+/", ":9/", url)) != 0


def test_the_health_check_sends_a_token(serving, tmp_path):
    (tmp_path / "token").write_text("a-secret-of-many-characters\nmore\n")
    bearer = "Bearer a-secret-of-many-characters"
    url = serving(lambda request: Response(200 if request.headers.get("authorization") == bearer else 401, "{}"))
    assert check(url, HEALTH_TOKEN_FILE=str(tmp_path / "token")) == 0
    assert check(url) != 0


def test_the_command_of_the_image_answers_probes_and_ends_with_sigterm(tmp_path):
    write_photo(tmp_path / "photos" / "a.png")
    places = {"/photos": tmp_path / "photos", "/state/app": tmp_path / "state", "8000": 0, "0.0.0.0": "127.0.0.1"}
    words = [str(places.get(word, word)) for word in IMAGE[1:]]
    environment = {**os.environ, "KERAS_RETRIEVAL_WEIGHTS": str(tmp_path), "HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_retrieval", *words], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    try:
        address = wait_until(lambda: process.stdout.readline(), "app has printed its address")
        url = re.search(r"http://[\d.]+:\d+/", address)[0]
        assert check(f"{url}status.json") == 0
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path = container("app")[probe]["httpGet"]["path"]
            with urllib.request.urlopen(url + path[1:]) as answer:
                assert answer.status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(pods()["app"]["terminationGracePeriodSeconds"]) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


# -- TensorFlow Serving beside ours

# Flags of tensorflow_model_server, the options of `serve` that do the same, and how the values compare.
SAME = {
    "port": ("port", int),
    "rest_api_port": ("rest_port", int),
    "model_name": ("model_name", None),
    "file_system_poll_wait_seconds": ("file_system_poll_wait_seconds", float),
    "rest_api_timeout_in_ms": ("rest_timeout_seconds", lambda text: int(text) / 1000),
}


def compose():
    service = services()["tensorflow-serving"]
    (volume,) = service["volumes"]
    return {
        "command": service["entrypoint"],
        "flags": service["command"],
        "ports": {int(port.rpartition(":")[2]) for port in service["ports"]},
        "mount": volume["target"],
        "monitoring": yaml.safe_load(COMPOSE.read_text("utf-8"))["configs"]["monitoring"]["content"],
    }


def kubernetes():
    mine = container("tensorflow-serving")
    return {
        "command": mine["command"],
        "flags": mine["args"],
        "ports": {port["containerPort"] for port in mine["ports"]},
        "mount": next(mount["mountPath"] for mount in mine["volumeMounts"] if mount["name"] == "models"),
        "monitoring": of_kind("ConfigMap")["tensorflow-serving"]["data"]["monitoring.pbtxt"],
    }


@pytest.mark.parametrize("deployment", [compose, kubernetes])
def test_the_real_server_is_run_as_ours(deployment, tmp_path):
    """The same ports, waits and metrics, on the same folder."""
    given = deployment()
    assert given["command"] == ["tensorflow_model_server"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in given["flags"])
    options = {name: option.default for name, option in inspect.signature(serve).parameters.items()}
    for flag, (option, read) in SAME.items():
        assert option in options
        assert read is None or read(flags[flag]) == options[option]
    assert set(flags) - set(SAME) == {"model_base_path", "monitoring_config_file"}
    assert given["ports"] == {ServerSettings().port, ServerSettings().rest_port}
    assert f'enable: true path: "{METRICS_PATH}"' in given["monitoring"]
    (tmp_path / "serving" / "retrieval" / "1").mkdir(parents=True)
    base = Path(flags["model_base_path"].replace(given["mount"], str(tmp_path / "serving"), 1))
    assert find_models(tmp_path / "serving", flags["model_name"]) == {"retrieval": base}
