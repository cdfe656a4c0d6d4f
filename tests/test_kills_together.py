"""Seeds that are trained together, killed before any of their file events: they go on as the group they were."""

import pytest

from tests.killing import left_over, results_of, run_seeds
from tests.pipeline import TINY, same, short


@pytest.mark.recipe
def test_seeds_that_are_trained_together(child, cache_dir, tmp_path):
    """They go on as the group they were: at whichever event of theirs, the same digits, and the same `replicas`."""
    words = [*TINY, f"cache_dir={cache_dir}", *short("erm"), "checkpoint_seconds=0"]
    whole = tmp_path / "whole"
    events = child(run_seeds, words, whole)
    wanted = results_of(whole)
    assert [stored["report"]["replicas"] for stored in wanted.values()] == [2, 2]
    numbered = [name for name in dict.fromkeys(events) if "pretrain" in name and not name.startswith("mkdir")]
    # Of both seeds: before, between and after what each of them does.
    assert {name.partition("#")[2] for name in numbered} >= {"1", "2"} and len(numbered) >= 20
    # Every third of them, from the first to the last: each takes two processes.
    for place, die_at in enumerate([*numbered[:-1:3], numbered[-1]]):
        store = tmp_path / str(place)
        child(run_seeds, words, store, die_at)
        child(run_seeds, words, store)
        same(results_of(store), wanted, die_at)
        assert not left_over(store), die_at
