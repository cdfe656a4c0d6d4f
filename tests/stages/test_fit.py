"""The training loop on a model whose accuracy in every epoch is written down beforehand."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import SGD

from data.batches import Batches
from data.split import Split, Task
from stages.base import Context
from stages.fit import Fitted, Job, Update, fit
from stages.store import StageFolder
from tests.pipeline import same

# One image of every group: both aligned ones first.
TARGET, BIAS = [0, 1, 0, 1], [0, 1, 1, 0]


def split(part: int, target: Sequence[int] = TARGET, bias: Sequence[int] | None = BIAS) -> Split:
    """Images of one pixel: channels are the image's place, its target, and the part it belongs to."""
    pixels = torch.tensor([[place, label, part] for place, label in enumerate(target)], dtype=torch.uint8)
    labels = None if bias is None else torch.tensor(bias)
    return Split(pixels[:, :, None, None], torch.tensor(target), labels, torch.arange(len(target)))


def task_of(train: Split | None = None, test: Split | None = None, valid: Split | None = None) -> Task:
    return Task("dial", train or split(0), test or split(1), valid, ("no", "yes"), ("left", "right"), "key")


class Dial(nn.Module):
    """Counts its training steps in a weight; after step w it gets the first `right[part][w]` images right."""

    def __init__(self, tested: Sequence[int], held_out: Sequence[int] = ()) -> None:
        super().__init__()
        self.turned = nn.Parameter(torch.zeros(()))
        self.right = torch.tensor([[0] * len(tested), tested, held_out or [0] * len(tested)])

    def forward(self, images: Tensor) -> Tensor:
        place, target, part = (images * 255).round().long().flatten(1).unbind(1)
        known = place < self.right[part, self.turned.long()]
        return one_hot(torch.where(known, target, 1 - target), 2).float()


@pytest.fixture
def context(tmp_path) -> Callable[..., Context]:
    def make(task: Task, folder: str = "stage", **changes: Any) -> Context:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        values = {
            "settings": {"dial": {}},
            "stage": "dial",
            "device": torch.device("cpu"),
            "seed": 1,
            "log": lambda name, value, epoch: None,
            "say": lambda line: None,
            "progress": False,
            "checkpoint_seconds": 0.0,
        }
        return Context(task=task, folder=StageFolder(path), **{**values, **changes})

    return make


def turn(model: Dial, task: Task, epochs: int, **changes: Any) -> Job:
    """A job that turns the dial by one each epoch (by the schedule's factor, where there is one)."""
    update = Update(lambda batch: -model.turned, SGD(model.parameters(), lr=1.0))
    values = {"read_outs": lambda images: {"dial": model(images)}, "main": "dial"}
    return Job(model, [update], Batches(task.train, len(task.train)), epochs, **{**values, **changes})


def chosen(fitted: Fitted) -> dict[str, tuple[int, float]]:
    """Epoch and stored weight of every selection but the mean, which is no epoch's."""
    epochs = {name: about for name, about in fitted.selected.items() if name != "mean"}
    return {name: (about["epoch"], float(about["state"]["turned"])) for name, about in epochs.items()}


def test_figures_of_every_epoch(context):
    task = task_of()
    logged: list[tuple[str, float, int]] = []
    model = Dial([0, 1, 3, 2])
    fitted = fit(turn(model, task, 3), context(task, log=lambda *entry: logged.append(entry)))
    rows = fitted.history
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["dial/unbiased"] for row in rows] == [25, 75, 50]
    assert [row["dial/aligned"] for row in rows] == [50, 100, 100]
    assert [row["dial/conflicting"] for row in rows] == [0, 50, 0]
    assert [row["dial/worst"] for row in rows] == [0, 0, 0]
    assert [row["loss"] for row in rows] == [0, -1, -2]
    assert all(row["seconds"] >= 0 for row in rows)
    assert all(type(value) is float for row in rows for value in row.values())
    assert ("dial/dial/unbiased", 75.0, 2) in logged
    assert {epoch for _, _, epoch in logged} == {1, 2, 3}
    report = fitted.report()
    assert report["summary"]["dial/unbiased/last"] == 50
    assert report["summary"]["dial/unbiased/oracle"] == 75
    assert report["epochs"] == {"last": 3, "oracle": 2, "mean": 3}
    assert report["matrices"]["oracle"]["dial"].tolist() == [[[1, 1], [0, 1]], [[1, 1], [1, 1]]]


@pytest.mark.parametrize(
    ("rule", "right", "epoch"),
    [
        ("unbiased", [0, 1, 3, 2, 3, 0], 2),
        ("unbiased", [0, 2, 2, 2, 2, 2], 1),
        ("aligned", [0, 1, 2, 4, 3, 0], 2),
        ("conflicting", [0, 2, 1, 0, 4, 3], 4),
        ("average", [0, 1, 2, 3, 4, 4], 4),
    ],
)
def test_the_oracle_is_the_first_best_epoch_by_its_rule(context, rule, right, epoch):
    task = task_of()
    fitted = fit(turn(Dial(right), task, 5, rule=rule), context(task))
    assert chosen(fitted) == {"last": (5, 5.0), "oracle": (epoch, float(epoch))}


def test_held_out_images_select_without_test_set_or_bias_labels(context):
    """The best epochs are 3 on held-out images, 2 on the test set, 4 by held-out groups; bias 99 would not pass."""
    tested, held_out = [0, 1, 4, 2, 0, 3], [0, 2, 1, 4, 4, 3]
    task = task_of(valid=split(2, bias=[99] * 4))
    fitted = fit(turn(Dial(tested, held_out), task, 5), context(task))
    assert chosen(fitted) == {"last": (5, 5.0), "oracle": (2, 2.0), "valid": (3, 3.0)}
    assert fitted.report()["summary"]["dial/unbiased/valid"] == 50
    assert [row["valid/dial/average"] for row in fitted.history] == [50, 25, 100, 100, 75]
    assert not any(name.startswith("valid/") and "average" not in name for name in fitted.history[0])


def test_test_labels_decide_nothing_but_the_oracle(context):
    other = task_of(test=split(1, target=[1, 0, 1, 0]), valid=split(2))
    honest = task_of(valid=split(2))
    right = ([0, 4, 1, 2, 3], [0, 1, 4, 2, 3])
    one = fit(turn(Dial(*right), honest, 4), context(honest, "one"))
    two = fit(turn(Dial(*right), other, 4), context(other, "two"))
    for selection in ("last", "valid"):
        assert chosen(one)[selection] == chosen(two)[selection]


def test_without_bias_labels_the_oracle_goes_by_the_average(context):
    task = task_of(test=split(1, bias=None))
    fitted = fit(turn(Dial([0, 1, 3, 2]), task, 3, rule="conflicting"), context(task))
    assert chosen(fitted)["oracle"] == (2, 2.0)
    assert fitted.report()["summary"] == dict.fromkeys(("dial/average/last", "dial/average/mean"), 50.0) | {
        "dial/average/oracle": 75.0
    }


@pytest.mark.parametrize(
    ("epochs", "mean", "right"), [(1, 1.0, 1), (3, 3.0, 3), (4, 4.0, 4), (8, 7.5, 3), (12, 11.0, 2)]
)
def test_the_mean_is_that_of_the_weights_of_the_last_quarter(context, epochs, mean, right):
    """Of 8 epochs those of 7 and 8, which is evaluated as the dial's step 7."""
    task = task_of()
    model = Dial([0, 1, 2, 3, 4, 0, 0, 3, 1, 0, 0, 2, 0])
    fitted = fit(turn(model, task, epochs), context(task))
    assert float(fitted.states()["mean"]["turned"]) == mean
    assert fitted.report()["summary"]["dial/unbiased/mean"] == 25 * right
    assert chosen(fitted)["last"] == (epochs, float(epochs))
    assert float(model.turned.detach()) == epochs


def test_the_schedule_is_a_factor_on_the_first_rate(context):
    task = task_of()
    model = Dial([0] * 9)
    fit(turn(model, task, 3, schedule=lambda done: [1.0, 0.5, 0.25][done]), context(task))
    assert model.turned.detach() == 1.75


def test_updates_are_done_in_order_and_losses_are_means_over_batches(context):
    task = task_of()
    first, second = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    model = Dial([0] * 9)
    model.first, model.second = first, second
    # The second loss sees what the first step did: 1, then 2.
    updates = [
        Update(lambda batch: -first, SGD([first], lr=1.0)),
        Update(lambda batch: first.detach() * (1 - second), SGD([second], lr=0.0)),
    ]
    job = turn(model, task, 1)
    job.updates, job.batches = updates, Batches(task.train, 2)
    row = fit(job, context(task)).history[0]
    assert (row["loss"], row["loss1"]) == (-0.5, 1.5)


def test_modules_train_while_training_and_frozen_ones_never(context):
    class Watching(Dial):
        def __init__(self) -> None:
            super().__init__([0] * 9)
            self.inner = nn.Dropout()
            self.seen: list[tuple[bool, bool]] = []

        def forward(self, images: Tensor) -> Tensor:
            self.seen.append((self.training, self.inner.training))
            return super().forward(images)

    task = task_of()
    model = Watching()
    job = turn(model, task, 2, frozen=[model.inner])
    job.updates = [Update(lambda batch: -model.turned + 0 * model(batch.images).sum(), SGD(model.parameters(), lr=1.0))]
    fit(job, context(task))
    # Two epochs, and the evaluation of the mean of the weights.
    assert model.seen == [(True, False), (False, False)] * 2 + [(False, False)]


def test_after_each_epoch_before_its_evaluation(context):
    task = task_of()
    model = Dial([0, 4, 4, 4])
    turned: list[float] = []
    fitted = fit(turn(model, task, 2, after_epoch=lambda: turned.append(float(model.turned.detach()))), context(task))
    assert turned == [1.0, 2.0]
    assert len(fitted.history) == 2


def test_each_epoch_has_a_generator_of_its_own(context):
    task = task_of()
    drawn: dict[str, list[float]] = {}

    def run(folder: str, **changes: Any) -> list[float]:
        ctx = context(task, folder, **changes)
        model = Dial([0] * 9)
        job = turn(model, task, 3)
        noise: list[float] = []

        def loss(batch: Any) -> Tensor:
            noise.append(float(torch.rand((), generator=ctx.generator) + torch.rand(())))
            return -model.turned

        job.updates = [Update(loss, SGD(model.parameters(), lr=1.0))]
        fit(job, ctx)
        return noise

    drawn = {"a": run("a"), "again": run("b"), "seed": run("c", seed=2), "stage": run("d", stage="other")}
    assert drawn["a"] == drawn["again"]
    assert len({value for name in ("a", "seed", "stage") for value in drawn[name]}) == 9


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
    assert said == ([f"dial: going on after epoch {done} of 9"] if done else [])


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
    monkeypatch.setattr("stages.fit.time.monotonic", lambda: now[0])
    yield now


def test_checkpoints_come_no_more_often_than_asked(context, clock, monkeypatch):
    written: list[float] = []
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state["history"])))
    task = task_of()
    model = Dial([0] * 9)

    def ten_seconds_later() -> None:
        clock[0] += 10

    fit(turn(model, task, 8, after_epoch=ten_seconds_later), context(task, checkpoint_seconds=25.0))
    assert written == [3, 6]


def test_given_up_before_the_checkpoint_of_the_epoch(context, monkeypatch):
    """Who goes on from a checkpoint is not asked about its epoch again."""
    written: list[int] = []
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state["history"])))
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
    monkeypatch.setattr(StageFolder, "save_checkpoint", lambda folder, state: written.append(len(state["history"])))
    task = task_of()
    fit(turn(Dial([0] * 9), task, 3), context(task))
    assert written == [1, 2]
    assert not any(Path(tmp_path / "stage").iterdir())
