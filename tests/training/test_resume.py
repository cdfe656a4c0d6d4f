"""A process that is killed in any stage, and the same command again: the same result as without the kill."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from debias.stages.recipes import STAGES
from debias.training.code import ROOT
from tests.pipeline import TINY, method_with, run_and_die, same, short

TRAINED = [name for name, stage in STAGES.items() if "epochs" in stage.settings]
EPOCHS = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A store for runs that nobody kills; what methods share is computed once."""
    return tmp_path_factory.mktemp("undisturbed")


def stored(store, outcome, stage):
    path = store / f"{stage}-{outcome.stages[stage].key}" / "result.pt"
    return torch.load(path, weights_only=True)


def kill(processes, stage, checkpoints, batches, line, folder):
    output = folder / "stderr.txt"
    process = processes.Process(target=run_and_die, args=(stage, checkpoints, batches, line, str(output)))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL, output.read_text()


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("stage", "batches"), [*((stage, 2) for stage in TRAINED), ("branches", -1)], ids=lambda value: str(value)
)
def test_killed_in_a_stage(processes, cache_dir, run_tiny, tmp_path, undisturbed, stage, batches):
    """Killed after two of four epochs: on the second batch of the third, or while its checkpoint is being written."""
    words = [*short(method_with(stage), EPOCHS), "checkpoint_seconds=0.0"]
    store = tmp_path / "runs"
    line = ["with", *TINY, f"cache_dir={cache_dir}", f"store={store}", *words]
    if not method_with(stage).startswith("["):
        line.insert(0, stage)
    kill(processes, stage, 2, batches, line, tmp_path)
    assert not list((store / "stages").glob(f"{stage}-*/done.json"))

    said: list[str] = []
    resumed = run_tiny(*words, last=stage, store=store / "stages", say=said.append)
    whole = run_tiny(*words, last=stage, store=undisturbed)
    assert f"{stage}: resuming after epoch 2 of {EPOCHS}" in said
    assert all(about.reused for name, about in resumed.stages.items() if name != stage)
    assert len(whole.stages[stage].report.history) == EPOCHS
    same(stored(store / "stages", resumed, stage), stored(undisturbed, whole, stage))


@pytest.mark.recipe
@pytest.mark.parametrize("checkpoints", [1, 2, 3])
def test_killed_around_a_restart_of_the_branches(processes, cache_dir, run_tiny, tmp_path, undisturbed, checkpoints):
    """The first start ends after two epochs: killed after its only checkpoint, or after those of the second."""
    words = [*short("denetdm", EPOCHS), "branches.restarts=1", "branches.restart_below=100.0", "checkpoint_seconds=0.0"]
    store = tmp_path / "runs"
    line = ["branches", "with", *TINY, f"cache_dir={cache_dir}", f"store={store}", *words]
    kill(processes, "branches", checkpoints, 0, line, tmp_path)
    resumed = run_tiny(*words, last="branches", store=store / "stages")
    whole = run_tiny(*words, last="branches", store=undisturbed)
    assert whole.stages["branches"].report.starts == 2
    same(stored(store / "stages", resumed, "branches"), stored(undisturbed, whole, "branches"))


@pytest.mark.recipe
def test_killed_from_outside_at_any_moment(cache_dir, command, tmp_path):
    """The program as the user starts it, killed when a stage of it is on its way."""
    words = [*short("erm", 60), "checkpoint_seconds=0", "pretrain.batch_size=32", "pictures=False"]
    store = tmp_path / "runs"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, str(ROOT / "main.py"), "with", *TINY, f"cache_dir={cache_dir}", f"store={store}", *words]
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    deadline = time.monotonic() + 300
    while not any((store / "stages").glob("pretrain-*/checkpoint.pt")):
        assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "output.txt").read_text()
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    (checkpoint,) = (store / "stages").glob("pretrain-*/checkpoint.pt")
    done = len(torch.load(checkpoint, weights_only=True)["history"])
    assert 1 <= done < 60

    assert command(*words) == 0
    assert command(*words, store=tmp_path / "undisturbed") == 0
    assert not checkpoint.exists()
    (resumed,) = (store / "stages").glob("pretrain-*/result.pt")
    (whole,) = (tmp_path / "undisturbed" / "stages").glob("pretrain-*/result.pt")
    same(torch.load(resumed, weights_only=True), torch.load(whole, weights_only=True))
    metrics = json.loads((store / "2" / "metrics.json").read_text())
    assert metrics["pretrain/model/unbiased"]["steps"] == list(range(1, 61))
    assert json.loads((store / "1" / "run.json").read_text())["status"] == "RUNNING"
