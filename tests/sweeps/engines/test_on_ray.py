"""The sweep on a Ray cluster of two machines (processes of this one), of which a worker and a machine are lost."""

import json
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from debias import main as program
from debias.errors import UserError
from debias.sweeps.drive import run_sweep, states_of
from debias.sweeps.engines.on_ray import OnRay
from debias.sweeps.plan import words_plan
from debias.sweeps.work import Assignment
from debias.tracking.results.records import read_records
from tests.sweeps.small import SMALL, dies_once, figures, tells

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(monkeypatch_module):
    from ray.cluster_utils import Cluster

    # Sockets have short names, and the folder of a test may have a long one.
    folder = tempfile.mkdtemp(prefix="ray")
    # Where the address of the cluster is written: the usual folder is there only after Ray was once started by itself.
    monkeypatch_module.setenv("RAY_TMPDIR", folder)
    (Path(folder) / "ray").mkdir()
    # A loopback address other than 127.0.0.1, instead of which Ray would take the machine's own.
    node = {"num_cpus": 1, "node_ip_address": "127.0.0.2", "object_store_memory": 80 * 2**20}
    head = {"include_dashboard": False, "temp_dir": folder}
    made = Cluster(initialize_head=True, head_node_args=node | head | {"num_gpus": 1})
    made.second = made.add_node(**node)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield patch


@pytest.fixture
def words(tmp_path, cache_dir):
    return [*SMALL, f"store={tmp_path / 'runs'}", f"cache_dir={cache_dir}"]


def one(tmp_path: Path) -> Assignment:
    plan = words_plan(program.build(), ["colored_digits", f"store={tmp_path / 'runs'}"])
    (plan.store / "sweeps").mkdir(parents=True, exist_ok=True)
    return Assignment(plan.trials[0], plan.store)


def outcome_of(engine: OnRay, assignment: Assignment):
    try:
        engine.submit(assignment)
        return engine.wait()[1]
    finally:
        engine.close()


def test_a_trial_finds_what_the_driver_has(cluster, tmp_path, monkeypatch):
    """Its folder and its variables, also when those of the cluster are others, and no GPU that it did not ask for."""
    monkeypatch.setenv("DATA_DIR", "somewhere")
    monkeypatch.setenv("MONGO_URL", "mongodb://user:secret@127.0.0.1:9/db")
    monkeypatch.chdir(tmp_path)
    found = json.loads(outcome_of(OnRay(cluster.address, gpus=0, run=tells), one(tmp_path)).error.partition(": ")[2])
    assert found["DATA_DIR"] == "somewhere" and "secret" in found["MONGO_URL"]
    assert found["folder"] == str(tmp_path) and found["CUDA_VISIBLE_DEVICES"] == "" and found["threads"] == 1
    monkeypatch.delenv("MONGO_URL")
    found = json.loads(outcome_of(OnRay(cluster.address, gpus=0.5, run=tells), one(tmp_path)).error.partition(": ")[2])
    assert found["MONGO_URL"] is None and found["CUDA_VISIBLE_DEVICES"] == "0"


def test_a_machine_without_the_code_says_so(cluster, tmp_path):
    ending = outcome_of(OnRay(cluster.address, root=Path("/nowhere/code")), one(tmp_path))
    assert ending.status == "failed" and "has no folder /nowhere/code: all machines" in ending.error


@pytest.mark.parametrize(
    ("cpus", "gpus", "slots"), [(1, 0, 2), (0.5, 0, 4), (0.1, 0, 20), (0.25, 0.5, 2), (1, None, 1), (0, 0.25, 4)]
)
def test_as_many_at_once_as_fit(cluster, cpus, gpus, slots):
    """A whole GPU each where nothing else is said and there is one."""
    engine = OnRay(cluster.address, cpus, gpus)
    assert not ray.is_initialized(), "not before it is asked"
    try:
        assert engine.slots == slots
    finally:
        engine.close()
    assert not ray.is_initialized()


def test_what_no_machine_has_is_one_line(cluster):
    with pytest.raises(UserError, match="--cpus 2 --gpus 0: no machine has so many") as caught:
        OnRay(cluster.address, 2, 0).slots  # noqa: B018
    assert "\n" not in str(caught.value) and not ray.is_initialized()


@pytest.mark.recipe
def test_a_worker_and_a_machine_are_lost(cluster, tmp_path, words, reference):
    """The same trials and figures as in one process, each in the record once. Last: the machine is not put back."""
    words = [*(word for word in words if not word.startswith("method=")), "method=erm"]
    plan = replace(words_plan(program.build(), words), record_file=tmp_path / "record.csv")
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("[2/4]") and "%" in line:
            cluster.remove_node(cluster.second, allow_graceful=False)

    engine = OnRay(cluster.address, gpus=0, run=dies_once)
    try:
        states = run_sweep(plan, engine, say)
        deadline = time.monotonic() + 60
        while engine.slots != 1:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        engine.close()
    assert len(states) == 4 and figures(states).items() <= figures(states_of(reference)).items()
    assert sum("its worker died (WorkerCrashedError" in line for line in lines) == 1
    folders = [json.loads(path.read_text())["status"] for path in plan.store.glob("[0-9]*/run.json")]
    killed = Counter(folders)["RUNNING"]
    assert Counter(folders)["COMPLETED"] == 4 and 1 <= killed <= 2
    recorded = [(run.config["skew"], run.config["seed"]) for run in read_records(tmp_path / "record.csv")]
    assert sorted(recorded) == [(skew, seed) for skew in (0.02, 0.05) for seed in (1, 2)]
