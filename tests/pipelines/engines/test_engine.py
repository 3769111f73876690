"""Each unit is committed once whatever befalls its workers, on each engine; a unit that cannot be done is listed."""

import os
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from keras_retrieval.errors import ArgumentError, MissingExtraError
from pipelines.engines import engine
from pipelines.engines.engine import run_units
from pipelines.engines.options import check_engine, parse_engine
from pipelines.engines.shipped import attempt_shipped
from pipelines.engines.work import ATTEMPTS, Engine, EngineError, Outcome, UnitsFailedError, this_version
from tests.helpers.small_job import SmallJob, units

CLUSTERS = ["dask", pytest.param("ray", marks=pytest.mark.ray)]


@pytest.fixture(scope="module")
def dask_cluster():
    """The address of two processes, which are started anew when they end."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, **options) as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def ray_cluster():
    if not os.environ.get("TEST_RAY"):
        pytest.skip("make test-ray starts Ray")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ""
    ray.shutdown()


def engine_of(name, request):
    return Engine(name, "" if name == "local" else request.getfixturevalue(f"{name}_cluster"), 2)


def run(job, engine):
    job.sharded.start()
    results = {}
    run_units(job, units(), engine=engine, label="squares", done=results.__setitem__)
    return results


def complete(job):
    names, left_out, notes = job.sharded.join()
    assert names == [str(number) for number in range(18)]
    assert not left_out
    for number, unit in units().items():
        assert (job.sharded.partial / f"squares-{number}").read_text() == str([one * one for one in unit])
    assert len(notes) == 6


@pytest.mark.parametrize("name", ["local", *CLUSTERS])
def test_outages_are_tried_again(name, request, tmp_path):
    job = SmallJob(tmp_path / "squares", {1: "outage"})
    assert run(job, engine_of(name, request)) == {number: sum(unit) for number, unit in units().items()}
    complete(job)
    assert [job.attempts(number) for number in range(6)] == [1, 3, 1, 1, 1, 1]


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_lost_worker_costs_its_unit_one_attempt(name, request, tmp_path):
    job = SmallJob(tmp_path / "squares", {2: "killed", 4: "killed after"})
    assert run(job, engine_of(name, request)) == {number: sum(unit) for number, unit in units().items()}
    complete(job)
    assert job.attempts(2) == job.attempts(4) == 2
    pids = {path.read_text() for path in tmp_path.glob("attempt-*")}
    assert len(pids) >= 2


@pytest.mark.parametrize("name", ["local", *CLUSTERS])
def test_a_unit_that_cannot_be_done_is_listed_and_the_others_are_done(name, request, tmp_path):
    job = SmallJob(tmp_path / "squares", {3: "broken"})
    expected = "squares: 1 of 6 units of work failed 3 times: unit 3: OSError: the file server is gone. Run the same"
    with pytest.raises(UnitsFailedError, match=re.escape(expected)) as caught:
        run(job, engine_of(name, request))
    assert set(caught.value.failed) == {3}
    assert job.attempts(3) == ATTEMPTS
    assert set(job.sharded.unfinished(list(units().values()))) == {3}
    run_units(SmallJob(job.folder, {}), {3: units()[3]}, engine=engine_of(name, request), label="squares")
    complete(job)


@pytest.mark.parametrize("name", ["local", *CLUSTERS])
def test_errors_of_this_package_end_the_run(name, request, tmp_path):
    job = SmallJob(tmp_path / "squares", {0: "refused"})
    kind = ArgumentError if name == "local" else EngineError
    with pytest.raises(kind, match="the unit is refused"):
        run(job, engine_of(name, request))
    assert job.attempts(0) == 1


def test_a_worker_that_cannot_load_the_job_is_not_lost(dask_cluster, tmp_path, monkeypatch):
    absent = ModuleType("pipelines.absent")

    class Job(SmallJob):
        pass

    Job.__module__, Job.__qualname__, absent.Job = absent.__name__, "Job", Job
    monkeypatch.setitem(sys.modules, absent.__name__, absent)
    with pytest.raises(UnitsFailedError, match=r"unit \d: ModuleNotFoundError: No module named 'pipelines\.absent'"):
        run(Job(tmp_path / "squares", {}), Engine("dask", dask_cluster, 2))
    complete_on(dask_cluster, tmp_path)


@pytest.mark.parametrize("installed", ["", "0.0.1"])
def test_workers_with_another_version_or_none_end_the_run(dask_cluster, tmp_path, monkeypatch, installed):
    def elsewhere(version, packed):
        return None, installed

    monkeypatch.setattr("pipelines.engines.shipped.attempt_shipped", elsewhere)
    said = f"this worker has {f'keras-retrieval {installed}' if installed else 'no keras-retrieval'}, and the command "
    with pytest.raises(EngineError, match=said):
        run(SmallJob(tmp_path / "squares", {}), Engine("dask", dask_cluster, 2))
    assert attempt_shipped("none", b"not unpickled") == (None, this_version())


def complete_on(address, tmp_path):
    job = SmallJob(tmp_path / "other", {})
    run(job, Engine("dask", address, 2))
    complete(job)


@pytest.mark.parametrize("late", [True, False])
def test_a_cluster_without_workers_is_named(monkeypatch, caplog, late):
    class Workers:
        asked, number = 0, None

        def room(self):
            return int(self.number is None)

        def present(self):
            return not late or self.asked > 3

        def submit(self, number, unit):
            self.number = number

        def outcomes(self):
            self.asked += 1
            return [Outcome(self.number, "done")] if self.asked > 5 else []

    monkeypatch.setattr(engine, "PATIENCE", 0.0)
    results = {}
    engine._Run(Workers(), {7: [1, 2]}, "squares", results.__setitem__, lambda count: None).run()
    assert results == {7: "done"}
    assert caplog.text.count("squares: waiting for workers: the cluster has none that is free") == late


def test_a_run_in_which_nothing_succeeds_ends_early(tmp_path):
    job = SmallJob(tmp_path / "squares", dict.fromkeys(range(6), "broken"))
    with pytest.raises(UnitsFailedError, match="3 of 6 units"):
        run(job, Engine())


def test_engines_are_named_or_have_an_address():
    assert parse_engine("--engine", "ray://head:10001") == Engine("ray", "ray://head:10001")
    assert parse_engine("--engine", "tcp://head:8786") == Engine("dask", "tcp://head:8786")
    assert [parse_engine("--engine", name).name for name in ("local", "ray", "dask")] == ["local", "ray", "dask"]
    for wrong in ("spark", "ray://", "http://head:1", "://x", "", "Ray"):
        with pytest.raises(ArgumentError, match="--engine must be local, ray, dask"):
            check_engine("--engine", wrong)


@pytest.mark.parametrize(
    ("address", "said"),
    [("tcp://127.0.0.1:9", "Timed out"), ("tcp://head", "missing port"), ("inproc://x", "not enough values")],
)
def test_a_cluster_that_does_not_answer_is_named(address, said, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("pipelines.engines.dask_workers._CONNECT", 0.2)
    monkeypatch.setattr(distributed, "Client", None)  # would be waited for at the end of the process
    with pytest.raises(EngineError, match=f"no Dask scheduler answers at {address}: {said}"):
        run(SmallJob(tmp_path / "squares", {}), Engine("dask", address))


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_engine_is_answered_with_its_extra(name, module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "keras-retrieval\[{name}\]"'):
        run(SmallJob(tmp_path / "squares", {}), Engine(name))


@pytest.mark.parametrize(
    ("address", "said"),
    [("", "Ray does not start on this machine: timed out"), ("ray://head:1", "no Ray cluster answers at ray://head:1")],
)
def test_ray_that_does_not_start_is_an_error_of_ours(address, said, tmp_path, monkeypatch):
    def init(**options):
        raise Exception("timed out\nand so on")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(EngineError, match=said):
        run(SmallJob(tmp_path / "squares", {}), Engine("ray", address))
