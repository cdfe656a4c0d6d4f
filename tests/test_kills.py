"""Killed before any of its file events, and the same command again: metrics and weights as without the kill."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from debias.stages.recipes import RECIPES
from tests.killing import event_name, left_over, record_of, results_of, run_watched
from tests.pipeline import TINY, same, short


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
    number = list(RECIPES).index(method)
    # Pictures take half of the time of so small a run.
    words = ["with", *TINY, f"pictures={number % 6 == 0}", f"cache_dir={cache_dir}", *short(method)]
    words.append("checkpoint_seconds=0")
    killed = tmp_path / "killed"
    events = child(run_watched, [*words, f"store={whole}"], whole)
    for die_at in chosen(events, number):
        child(run_watched, [*words, f"store={killed}"], killed, die_at)
    child(run_watched, [*words, f"store={killed}"], killed)
    found, wanted = results_of(killed), results_of(whole)
    same(found, {name: wanted[name] for name in found})
    same(record_of(killed), record_of(whole))
    assert not left_over(killed)
    statuses = [json.loads(path.read_text())["status"] for path in killed.glob("[0-9]*/run.json")]
    assert statuses.count("COMPLETED") == 1 and set(statuses) <= {"COMPLETED", "RUNNING"}


def test_the_events_of_a_file(tmp_path):
    """Names without what differs from run to run."""
    assert event_name("12/.run.json.4711.140123.partial") == "RUN/.run.json.partial"
    assert event_name("stages/pretrain-0123456789abcdef/.result.pt.99") == "stages/pretrain-KEY/.result.pt"
    assert event_name(str(Path("_sources") / "main_0123456789abcdef0123.py")) == "_sources/main_KEY.py"
