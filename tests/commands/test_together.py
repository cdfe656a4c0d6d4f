"""Data of runs that are trained simultaneously: as many as fit into memory, each training once."""

import pytest
import torch

from debias.commands.together import at_most, train_runs
from debias.data.loading import load_task
from debias.errors import UserError
from debias.stages.recipes import stages_of
from debias.training.replicas import run_replicas
from debias.training.store import Store
from tests.pipeline import short

CPU = torch.device("cpu")


@pytest.fixture
def train(tiny, tmp_path):
    """train(settings of each) -> lines, failures, and the number of finished stages."""

    def run(every, load=load_task, **also):
        said: list[str] = []
        stages = stages_of(every[0]["method"])
        names = [f"run {number}" for number in range(len(every))]
        failures = train_runs(stages, every, names, CPU, Store(tmp_path), load, said.append, **also)
        return said, failures, len(list(tmp_path.glob("*/done.json")))

    return run


@pytest.mark.recipe
@pytest.mark.parametrize(("fit", "parts"), [(5, [5]), (4, [3, 2]), (2, [2, 2, 1]), (0, [1] * 5)])
def test_in_parts_where_memory_is_short(tiny, train, fit, parts):
    every = [tiny(*short("erm", 1), f"seed={seed}") for seed in range(1, 6)]
    task = load_task(every[0])
    one = sum(split.images.nbytes for split in (task.train, task.test))
    asked: list[int] = []

    def counted(stages, tasks, *arguments, **more):
        asked.append(len(tasks))
        return run_replicas(stages, tasks, *arguments, **more)

    said, failures, stored = train(every, free=lambda device: int(2 * one * (fit + 0.5)), train=counted)
    assert failures == [None] * 5, said
    assert asked == parts and stored == 5
    assert any("memory is short" in line for line in said) == (len(parts) > 1)


def test_on_a_gpu_training_images_are_counted_twice(task):
    held = [split.images.nbytes for split in (task.train, task.valid, task.test)]
    free = {"cpu": 10**12, "cuda": 2 * (sum(held) + held[0]) * 7}
    assert at_most(task, torch.device("cuda"), lambda device: free[device.type]) == 7
    assert at_most(task, CPU, lambda device: free[device.type]) > 1000


@pytest.mark.recipe
def test_equal_data_and_seed_are_trained_once(tiny, train):
    """`palette` is a setting of other data sets; two of one stage would wait for each other for ever."""
    every = [tiny(*short("erm", 1), f"palette={palette}") for palette in ("jitter", "colored")]
    assert [own["palette"] for own in every] == ["jitter", "colored"]
    _, failures, stored = train(every)
    assert failures == [None, None] and stored == 1


def test_all_processes_take_stages_in_one_order(tiny, train):
    """By seed and data, whatever order they come in: two that each held what the other needs would wait for ever."""
    every = [tiny(*short("erm", 1), f"seed={seed}", f"skew={skew}") for skew in (0.05, 0.2) for seed in (1, 2)]
    orders = []

    def noted(stages, tasks, settings, *arguments, **more):
        orders.append([(own["seed"], own["skew"]) for own in settings])
        assert more["names"] == [f"run {given.index(own)}" for own in settings]
        return [UserError(f"{own['seed']} {own['skew']}") for own in settings]

    for given in (every, every[::-1]):
        _, failures, _ = train(given, train=noted)
        assert [str(failure) for failure in failures] == [f"{own['seed']} {own['skew']}" for own in given]
    assert orders[0] == orders[1] and [seed for seed, _ in orders[0]] == [1, 1, 2, 2]


@pytest.mark.recipe
@pytest.mark.parametrize("bad", [1, 2, 3], ids=["first", "in the middle", "last"])
def test_data_that_cannot_be_loaded_leave_the_others(tiny, train, bad):
    every = [tiny(*short("erm", 1), f"seed={seed}") for seed in (1, 2, 3)]

    def load(own):
        if own["seed"] == bad:
            raise UserError("no such file")
        return load_task(own)

    threads = torch.get_num_threads()
    said, failures, stored = train(every, load)
    assert [str(failure) for failure in failures if failure is not None] == ["no such file"]
    assert failures[bad - 1] is not None and stored == 2
    assert f"run {bad - 1}: no such file" in said
    assert torch.get_num_threads() == threads


def test_where_none_can_be_loaded_nothing_is_trained(tiny, train):
    def load(own):
        raise UserError("no such file")

    every = [tiny(*short("erm", 1), f"seed={seed}") for seed in (1, 2)]
    _, failures, stored = train(every, load)
    assert [str(failure) for failure in failures] == ["no such file"] * 2 and stored == 0
