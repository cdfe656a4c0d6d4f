"""Checkpoints of the training loop: when they are written, and that going on from one changes nothing."""

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from debias.data.batches import Batches
from debias.training.job import Fitted, Job, Update
from debias.training.loop import fit
from debias.training.stage import Context
from debias.training.store import StageFolder
from tests.pipeline import same
from tests.stages.dial import TARGET, Dial, context_in, split, task_of, turn


@pytest.fixture
def context(tmp_path) -> Callable[..., Context]:
    return lambda task, folder="stage", **changes: context_in(tmp_path / folder, task, **changes)


class Interrupted(Exception):
    """Stands for a machine that is lost."""


class Noisy(nn.Module):
    """Everything a checkpoint has to hold: weights, buffers, momentum, a tensor beside the model, random layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Flatten(), nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
            )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def train_noisy(ctx: Context, epochs: int, stop: tuple[int, int] | None = None) -> tuple[Fitted, Tensor]:
    """Train; `stop` is the (epoch, batch) in which to be interrupted."""
    model, running = Noisy(), torch.zeros(3)
    ctx.task = task_of(train=split(0, TARGET * 6, None))
    step = -1

    def loss(batch: Any) -> Tensor:
        nonlocal step
        step += 1
        if stop is not None and step == 3 * stop[0] + stop[1]:
            raise Interrupted
        running.mul_(0.9).add_(batch.images.mean((0, 2, 3)) + 0.01 * torch.rand(3, generator=ctx.generator))
        return cross_entropy(model(batch.images) * (1 + running.sum()), batch.target)

    optimiser = SGD(model.parameters(), lr=0.1, momentum=0.9)
    job = Job(
        model,
        [Update(loss, optimiser)],
        Batches(ctx.task.train, 8),
        epochs,
        lambda images: {"noisy": model(images)},
        "noisy",
        schedule=lambda done: 0.8**done,
        tensors={"running": running},
    )
    return fit(job, ctx), running


@pytest.mark.parametrize("stops", [[(0, 1)], [(1, 0)], [(5, 2)], [(8, 1)], [(3, 1), (0, 0), (5, 2)]], ids=str)
def test_interrupted_and_gone_on_is_the_same_to_the_last_bit(context, stops):
    """The last quarter of nine epochs is two: (8, 1) is between the two that the mean is made of."""
    whole, running = train_noisy(context(task_of(), "whole"), 9)
    for stop in stops:
        torch.manual_seed(4711)
        with pytest.raises(Interrupted):
            train_noisy(context(task_of(), "broken"), 9, stop)
    logged: list[tuple[str, float, int]] = []
    said: list[str] = []
    ctx = context(task_of(), "broken", log=lambda *entry: logged.append(entry), say=said.append)
    again, running_again = train_noisy(ctx, 9)
    same(again.history, whole.history)
    same(again.selected, whole.selected)
    same(running_again, running)
    # The record of the second run holds all epochs, those before the interruption too.
    assert sorted({epoch for _, _, epoch in logged}) == [*range(1, 10)]
    done = sum(stop[0] for stop in stops)
    assert said == ([f"dial: resuming after epoch {done} of 9"] if done else [])


def test_a_damaged_checkpoint_means_from_the_start(context, tmp_path):
    whole, _ = train_noisy(context(task_of(), "whole"), 3)
    with pytest.raises(Interrupted):
        train_noisy(context(task_of(), "broken"), 3, (2, 0))
    path = tmp_path / "broken" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is not used"):
        again, _ = train_noisy(context(task_of(), "broken"), 3)
    same(again.history, whole.history)


@pytest.fixture
def clock(monkeypatch) -> Iterator[list[float]]:
    """A clock that a test sets."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now


def test_checkpoints_come_no_more_often_than_asked(context, clock, monkeypatch):
    written: list[float] = []
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state.history)))
    task = task_of()
    model = Dial([0] * 9)

    def ten_seconds_later() -> None:
        clock[0] += 10

    fit(turn(model, task, 8, after_epoch=ten_seconds_later), context(task, checkpoint_seconds=25.0))
    assert written == [3, 6]


def test_given_up_before_the_checkpoint_of_the_epoch(context, monkeypatch):
    """Who goes on from a checkpoint is not asked about its epoch again."""
    written: list[int] = []
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state.history)))
    task = task_of()
    asked: list[int] = []

    def stop(done: int) -> bool:
        asked.append(done)
        return done == 2

    fitted = fit(turn(Dial([0] * 9), task, 5, stop=stop), context(task))
    assert fitted.stopped and len(fitted.history) == 2
    assert (written, asked) == ([1], [1, 2])
    assert not fit(turn(Dial([0] * 9), task, 1, stop=lambda done: False), context(task)).stopped


def test_no_checkpoint_after_the_last_epoch(context, tmp_path, monkeypatch):
    written: list[int] = []
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state.history)))
    task = task_of()
    fit(turn(Dial([0] * 9), task, 3), context(task))
    assert written == [1, 2]
    assert not any(Path(tmp_path / "stage").iterdir())


def _changed(state: dict[str, Any], fault: str) -> Any:
    first = next(iter(state["model"]))
    return {
        "a list": [1],
        "a tensor": torch.zeros(3),
        "nothing": None,
        "no history": {key: value for key, value in state.items() if key != "history"},
        "too long a history": {**state, "history": state["history"] * 50},
        "a history of something else": {**state, "history": [1]},
        "more optimisers": {**state, "optimisers": state["optimisers"] * 2},
        "an optimiser of nothing": {**state, "optimisers": [{"state": {}, "param_groups": []}]},
        "other names": {**state, "model": {f"x{key}": value for key, value in state["model"].items()}},
        "another shape": {**state, "model": {**state["model"], first: torch.zeros(1)}},
        "not finite": {**state, "model": {**state["model"], first: state["model"][first] * float("nan")}},
        "no selections": {**state, "selected": {}},
        "other selections": {**state, "selected": {"last": {"state": {}}}},
        "texts": {**state, "mean": "x"},
        "a figure that is a text": {**state, "history": [{**state["history"][0], "loss": "x"}]},
        "a number in place of a moment": _with_optimiser(state, "state", 0, "exp_avg", 3),
        "a moment of another shape": _with_optimiser(state, "state", 0, "exp_avg", torch.zeros(3)),
        "a moment that is not finite": _with_optimiser(state, "state", 0, "step", torch.tensor(float("nan"))),
        "a learning rate that is a list": _with_optimiser(state, "param_groups", 0, "lr", []),
    }[fault]


def _with_optimiser(state, part, place, name, value):
    """The state of a training whose first optimiser has another value somewhere."""
    changed = copy.deepcopy(state["optimisers"])
    changed[0][part][place][name] = value
    return {**state, "optimisers": changed}


FAULTS = (
    "a list", "a tensor", "nothing", "no history", "too long a history", "a history of something else",
    "more optimisers", "an optimiser of nothing", "other names", "another shape", "not finite", "no selections",
    "other selections", "texts", "a figure that is a text", "a number in place of a moment",
    "a moment of another shape", "a moment that is not finite", "a learning rate that is a list",
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_of_something_else_is_not_used_and_changes_nothing(fault, tiny, task, tmp_path):
    """Sound files with foreign content: training starts over, and ends as it would without them."""
    said: list[str] = []
    whole, again = (StageFolder(tmp_path / name) for name in ("whole", "again"))
    results = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for folder in (whole, again):
            folder.path.mkdir()
            if folder is again:
                state = torch.load(tmp_path / "kept.pt", weights_only=True)
                torch.save(_changed(state, fault), again.path / "checkpoint.pt")
            results.append(_trained(tiny, task, folder, said, tmp_path / "kept.pt"))
    said += [str(one.message) for one in warned]
    same(*results)
    assert any("is not used" in line for line in said) and not any("going on" in line for line in said)


def _trained(tiny, task, folder, said, keep):
    from debias.stages.pretrain import Pretrain

    settings = tiny(
        "method=erm", "pretrain.epochs=2", "pretrain.network=mlp3", "pretrain.batch_size=128", "checkpoint_seconds=0"
    )
    context = Context(
        task=task, settings=settings, stage="pretrain", device=torch.device("cpu"), seed=1, folder=folder,
        log=lambda name, value, epoch: None, say=said.append, progress=False, checkpoint_seconds=0.0,
    )  # fmt: skip
    result = Pretrain().run({}, context)
    if not keep.exists():
        keep.write_bytes((folder.path / "checkpoint.pt").read_bytes())
    return dict(result["model"].states)
