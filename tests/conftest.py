"""Fixtures that find the real photos, and skip tests that need them with a reason if they are absent."""

import gc
import os
import tempfile
import time
from pathlib import Path

# Before numpy and TensorFlow are imported; child processes inherit it. As many processes of tests run as there are
# cores, and threads of numpy and TensorFlow wait for each other in a loop. Tests compile many small programs that run
# once or twice, so that less optimization takes a tenth off their time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# tf2onnx copies the whole graph before each of its optimizers, to go on without one that fails: here it fails.
os.environ.setdefault("TF2ONNX_CATCH_ERRORS", "")
# The folder of helpers/process_start/sitecustomize.py.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parent / "helpers" / "process_start"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# JAX compiles the same programs in many tests and in each process of tests: here each is compiled once.
if os.environ.get("KERAS_BACKEND") == "jax" and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="jax-programs-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
_CLOCKS = {name: getattr(time, name) for name in ("monotonic", "perf_counter", "sleep", "time")}


def pytest_collection_finish() -> None:
    """Spares Python most searches for cycles in objects that stay: a process of tests has millions of them."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Fails a test that moves the clock of the servers, too, which other tests left running: tests/helpers/clock.py."""
    result = yield
    moved = [name for name, function in _CLOCKS.items() if getattr(time, name) is not function]
    if moved:
        pytest.fail(f"this test replaced {moved} of the module time in all threads: use tests/helpers/clock.py")
    return result


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos, weights and goldens beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} is missing")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keeps what tests remember of folders of photos out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_RETRIEVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("KERAS_RETRIEVAL_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="session", autouse=True)
def precision_of_tests():
    """`--precision auto` is float32, also in child processes, so that exact results hold on every processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_RETRIEVAL_PRECISION", "float32")
        yield


@pytest.fixture(scope="session")
def search_service(tmp_path_factory):
    """A small collection with its index and served network; see tests/helpers/search_service.py."""
    pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    pytest.importorskip("scann", reason="scann is not installed")
    from tests.helpers.search_service import make_search_service

    return make_search_service(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="session")
def search_server(search_service, tmp_path_factory):
    """A server of `search_service`, see tests/helpers/search_service.py."""
    from tests.helpers.search_service import serving_search

    with serving_search(search_service, tmp_path_factory.mktemp("shown")) as server:
        yield server
