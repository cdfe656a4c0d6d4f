"""What a store and a cache hold, and that `results.py clean` takes nothing that a run needs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from debias import results
from debias.data.cache import cached, key_of, noting
from debias.training.artifacts import Checkpoint, Report
from debias.training.store import StageFolder, Store

RESULT = {"report": Report(history=[{"loss": 0.5}] * 1000, summary={}, matrices={})}
CHECKPOINT = Checkpoint({}, [], {}, [{"epoch": 0.0}], {}, {})


@pytest.fixture
def store(tmp_path, add_run):
    """A store with a finished run and its stage, a dead run with a checkpoint, and stages of no run."""
    stages = Store(tmp_path / "stages")
    stages.folder("pretrain", "aa").save_result(RESULT, {})
    add_run("erm", unbiased=50.0, info={"stages": {"pretrain": {"key": "aa"}}})
    stages.folder("pretrain", "bb").save_result(RESULT, {})
    stages.folder("finetune", "bb").save_checkpoint(CHECKPOINT)
    add_run("lff", status="FAILED", info={"begun": {"pretrain": "bb", "finetune": "bb"}})
    stages.folder("pretrain", "cc").save_result(RESULT, {})
    stages.folder("prune", "cc").save_checkpoint(CHECKPOINT)
    for folder in (tmp_path / "stages").iterdir():
        (folder / "lock").touch()
    (tmp_path / "stages" / "pretrain-aa" / ".result.pt.4711").write_bytes(bytes(5000))
    return tmp_path


def names(store: Path) -> set[str]:
    return {path.name for path in (store / "stages").iterdir()}


EVERY = {"pretrain-aa", "pretrain-bb", "finetune-bb", "pretrain-cc", "prune-cc"}


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def clean(store, cache, capsys):
    def clean(*words: str) -> str:
        assert results.main(["clean", "--store", str(store), "--cache-dir", str(cache), *words]) == 0
        return capsys.readouterr().out

    return clean


def test_without_yes_all_is_shown_and_nothing_removed(clean, store):
    said = clean("--checkpoints", "--cache")
    assert all(str(store / "stages" / name) in said for name in ("pretrain-cc", "prune-cc", "finetune-bb"))
    assert ".result.pt.4711" in said and "--yes" in said
    assert str(store / "stages" / "pretrain-bb") not in said
    assert names(store) == EVERY


def test_what_no_run_refers_to_goes(clean, store):
    clean("--yes")
    assert names(store) == EVERY - {"pretrain-cc"}
    assert not (store / "stages" / "pretrain-aa" / ".result.pt.4711").exists()
    assert StageFolder(store / "stages" / "pretrain-aa").load_result() is not None
    assert clean("--yes") == "nothing to remove\n"


def test_checkpoints_go_only_when_asked_for(clean, store):
    clean("--yes", "--checkpoints")
    assert names(store) == {"pretrain-aa", "pretrain-bb"}


def test_a_stage_that_another_process_has_is_kept(clean, store):
    code = (
        "import sys, time\nfrom filelock import FileLock\n"
        f"with FileLock({str(store / 'stages' / 'prune-cc' / 'lock')!r}), "
        f"FileLock({str(store / 'stages' / 'pretrain-aa' / 'lock')!r}):\n"
        "    print('held', flush=True)\n    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        clean("--yes", "--checkpoints")
        process.kill()
    assert names(store) == {"pretrain-aa", "pretrain-bb", "prune-cc"}
    assert (store / "stages" / "pretrain-aa" / ".result.pt.4711").exists()


def test_stages_of_a_run_at_work_are_kept(clean, store, add_run):
    """It is recorded what they are when it ends; an older stage that no run refers to goes all the same."""
    old = store / "stages" / "pretrain-cc" / "done.json"
    os.utime(old, (time.time() - 3600,) * 2)
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    add_run("erm", status="RUNNING", started=now)
    Store(store / "stages").folder("pretrain", "dd").save_result(RESULT, {})
    (store / "stages" / "pretrain-dd" / "lock").touch()
    assert "a run is at work" in clean("--yes")
    assert names(store) == EVERY - {"pretrain-cc"} | {"pretrain-dd"}


def test_stages_are_kept_while_a_sweep_is_at_work(clean, store):
    (store / "sweeps").mkdir()
    with FileLock(store / "sweeps" / "trial.lock"):
        assert "a sweep is at work" in clean("--yes")
        assert names(store) == EVERY
    clean("--yes")
    assert names(store) == EVERY - {"pretrain-cc"}


def test_stages_are_kept_where_a_run_cannot_be_read(clean, store):
    (store / "1" / "info.json").write_text('{"stages"')
    assert "cannot be read" in clean("--yes")
    assert names(store) == EVERY


def test_a_run_of_another_program_keeps_nothing(clean, store):
    (store / "7").mkdir()
    (store / "7" / "config.json").write_text(json.dumps({"epochs": 3}))
    (store / "7" / "run.json").write_text("{}")
    clean("--yes")
    assert "pretrain-cc" not in names(store)


def test_links_are_not_followed(clean, store, tmp_path_factory):
    folder = Store(tmp_path_factory.mktemp("elsewhere")).folder("pretrain", "ee")
    folder.save_result(RESULT, {})
    (folder.path / "lock").touch()
    (store / "stages" / "pretrain-ee").symlink_to(folder.path)
    clean("--yes", "--checkpoints", "--cache")
    assert folder.load_result() is not None


def test_built_data_sets(clean, cache, add_run):
    """Those that a run read stay; what a killed process was building always goes."""
    with noting() as used:
        cached(cache, "read", key_of(x=1), lambda: {"images": np.zeros(3)})
    cached(cache, "unread", key_of(x=2), lambda: {"images": np.zeros(3)})
    (cache / "broken-0.partial").mkdir()
    (cache / "downloads").mkdir()
    (cache / "broken-files.csv").touch()
    add_run("erm", unbiased=1.0, info={"data": {"cached": sorted(used)}})
    clean("--yes")
    assert not (cache / "broken-0.partial").exists() and len(list(cache.glob("*read-*/meta.json"))) == 2
    clean("--yes", "--cache")
    assert {path.name for path in cache.iterdir() if path.suffix != ".lock"} == {
        *used, "downloads", "broken-files.csv"
    }  # fmt: skip


def test_disk_adds_up(store, cache, capsys):
    call = ["disk", "--store", str(store), "--cache-dir", str(cache), "--format", "csv"]
    assert results.main(call) == 0
    rows = [line.rsplit(",", 3)[1:] for line in capsys.readouterr().out.splitlines()[1:]]
    numbers = {kind: int(number) for kind, number, _ in rows}
    assert numbers["finished stages"] == 2 and numbers["finished stages that no run refers to"] == 1
    assert numbers["checkpoints of dead runs"] == 2 and numbers["leftovers of killed processes"] == 1
    assert numbers["runs"] == 2 and numbers.pop("all") == sum(numbers.values())


def test_a_store_that_is_not_there(capsys):
    assert results.main(["disk", "--store", "nowhere"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
