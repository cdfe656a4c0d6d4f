"""Killed before any of its file events, and the same command again: metrics and weights as without the kill."""

import json
import signal
from itertools import combinations, count
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from debias.stages.recipes import RECIPES
from tests.killing import event_name, run_seeds, run_watched
from tests.pipeline import TINY, same, short


@pytest.fixture
def child(processes, tmp_path):
    """child(function, arguments, store, die_at) -> exit status and events of a process that may be killed at one."""
    number = count()

    def run(function, arguments, store, die_at=""):
        record, output = (tmp_path / f"{what}-{next(number)}.txt" for what in ("events", "output"))
        process = processes.Process(
            target=function, args=(arguments, str(store), str(output), str(record), die_at), daemon=True
        )
        process.start()
        process.join(300)
        wanted = (-signal.SIGKILL,) if die_at else (0,)
        assert process.exitcode in wanted, f"{die_at}: {process.exitcode} {output.read_text()}"
        return record.read_text().splitlines()

    return run


def results(store):
    """What every stage of a store has given, but for the seconds it took."""
    return {path.parent.name: torch.load(path, weights_only=True) for path in sorted(store.glob("stages/*/result.pt"))}


def record(store):
    """Of the newest run: its values by metric, its figures and its weights."""
    folder = max((path for path in store.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    run, info, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("run", "info", "metrics"))
    assert run["status"] == "COMPLETED"
    values = {name: (own["steps"], own["values"]) for name, own in metrics.items() if not name.endswith("/seconds")}
    return {"values": values, "summary": info["summary"], "weights": load_file(folder / "weights.safetensors")}


def left_over(store):
    return [path.name for path in store.glob("stages/*/*") if path.name not in ("done.json", "result.pt", "lock")]


def chosen(events, number):
    """Two events at which a recipe is killed, one after the other: of the four parts of a run, others each time."""
    kinds = list(dict.fromkeys(events))
    # What is there already is neither made nor removed again.
    stages = [name for name in kinds if " stages/" in name and not name.startswith(("mkdir", "remove"))]
    begin, end = kinds.index(stages[0]), kinds.index(stages[-1])
    parts = [
        kinds[:begin],
        stages[: len(stages) // 2],
        stages[len(stages) // 2 :],
        [name for name in kinds[end:] if " RUN/" in name],
    ]
    pair = list(combinations(parts, 2))[number % 6]
    return [some[7 * number % len(some)] for some in pair]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store for runs that nobody kills; what recipes share is computed once."""
    return tmp_path_factory.mktemp("whole")


@pytest.mark.recipe
@pytest.mark.parametrize("method", RECIPES)
def test_every_recipe(child, cache_dir, tmp_path, whole, method):
    words = ["with", *TINY, f"cache_dir={cache_dir}", *short(method), "checkpoint_seconds=0"]
    killed = tmp_path / "killed"
    events = child(run_watched, [*words, f"store={whole}"], whole)
    for die_at in chosen(events, list(RECIPES).index(method)):
        child(run_watched, [*words, f"store={killed}"], killed, die_at)
    child(run_watched, [*words, f"store={killed}"], killed)
    found, wanted = results(killed), results(whole)
    same(found, {name: wanted[name] for name in found})
    same(record(killed), record(whole))
    assert not left_over(killed)
    statuses = [json.loads(path.read_text())["status"] for path in killed.glob("[0-9]*/run.json")]
    assert statuses.count("COMPLETED") == 1 and set(statuses) <= {"COMPLETED", "RUNNING"}


@pytest.mark.recipe
def test_seeds_that_are_trained_together(child, cache_dir, tmp_path):
    """They go on as the group they were: at whichever event of theirs, the same digits, and the same `replicas`."""
    words = [*TINY, f"cache_dir={cache_dir}", *short("erm"), "checkpoint_seconds=0"]
    whole = tmp_path / "whole"
    events = child(run_seeds, words, whole)
    wanted = results(whole)
    assert [stored["report"]["replicas"] for stored in wanted.values()] == [2, 2]
    numbered = [name for name in dict.fromkeys(events) if "pretrain" in name and not name.startswith("mkdir")]
    # Of both seeds: before, between and after what each of them does.
    assert {name.partition("#")[2] for name in numbered} >= {"1", "2"} and len(numbered) >= 20
    # Every third of them, from the first to the last: each takes two processes.
    for place, die_at in enumerate([*numbered[:-1:3], numbered[-1]]):
        store = tmp_path / str(place)
        child(run_seeds, words, store, die_at)
        child(run_seeds, words, store)
        same(results(store), wanted, die_at)
        assert not left_over(store), die_at


def test_the_events_of_a_file(tmp_path):
    """Names without what differs from run to run."""
    assert event_name("12/.run.json.4711.140123.partial") == "RUN/.run.json.partial"
    assert event_name("stages/pretrain-0123456789abcdef/.result.pt.99") == "stages/pretrain-KEY/.result.pt"
    assert event_name(str(Path("_sources") / "main_0123456789abcdef0123.py")) == "_sources/main_KEY.py"
