"""The training loop on a model whose accuracy in every epoch is written down beforehand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from debias.data.batches import Batches
from debias.training.artifacts import BiasLabels
from debias.training.heldout import held_out_artifact
from debias.training.job import Fitted, Update
from debias.training.loop import fit
from debias.training.stage import Context
from debias.vocabulary import GROUP_FIGURES
from tests.stages.dial import Dial, context_in, split, task_of, turn


@pytest.fixture
def context(tmp_path) -> Callable[..., Context]:
    return lambda task, folder="stage", **changes: context_in(tmp_path / folder, task, **changes)


def chosen(fitted: Fitted) -> dict[str, tuple[int, float]]:
    """Epoch and stored weight of every selection but the mean, which is no epoch's."""
    epochs = {name: about for name, about in fitted.selected.items() if name != "mean"}
    return {name: (about.epoch, float(about.state["turned"])) for name, about in epochs.items()}


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
    assert report.summary["dial/unbiased/last"] == 50
    assert report.summary["dial/unbiased/oracle"] == 75
    assert report.epochs == {"last": 3, "oracle": 2, "mean": 3}
    assert report.matrices["oracle"]["dial"].tolist() == [[[1, 1], [0, 1]], [[1, 1], [1, 1]]]


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
    assert fitted.report().summary["dial/unbiased/valid"] == 50
    assert [row["valid/dial/average"] for row in fitted.history] == [50, 25, 100, 100, 75]
    held_out = {name.removeprefix("valid/dial/") for name in fitted.history[0] if name.startswith("valid/")}
    assert held_out == {"average", "auroc", "average_precision"}


def labels_of(task, label):
    """Pseudo bias labels of a task's held-out images, as a miner gives them."""
    return held_out_artifact(task, torch.tensor(label), 2)


def test_pseudo_labels_of_held_out_images_select_beside_their_accuracy(context):
    """Nine images in cells of 6, 1, 1 and 1: all of the largest is the best accuracy, one of each the best balance."""
    target, pseudo = [0, 0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1, 1, 0]
    task = task_of(valid=split(2, target=target, bias=[99] * 9))
    # The dial gets the first so many right: 6 of cell (0, 0) alone; then (1, 1), (0, 1) and (1, 0) as well.
    held_out = [0, 6, 7, 9, 8]
    fitted = fit(turn(Dial([0, 4, 0, 1, 0], held_out), task, 4), context(task, held_out_bias=labels_of(task, pseudo)))
    assert [round(row["valid_pseudo/dial/pseudo_unbiased"], 2) for row in fitted.history] == [25, 50, 100, 75]
    assert [round(row["valid/dial/average"], 2) for row in fitted.history] == [66.67, 77.78, 100, 88.89]
    assert chosen(fitted) == {"last": (4, 4.0), "oracle": (1, 1.0), "valid": (3, 3.0), "valid_pseudo": (3, 3.0)}
    assert fitted.report().summary["dial/unbiased/valid_pseudo"] == 25


def test_balance_and_accuracy_select_different_epochs(context):
    """In the first epoch most images are right, of one cell; in the second fewer, but of every cell."""

    class Two(Dial):
        def forward(self, images):
            place, target, part = (images * 255).round().long().flatten(1).unbind(1)
            first = self.turned.long() == 1
            known = torch.where(part == 2, torch.where(first, place < 6, place >= 5), place < 2)
            return torch.nn.functional.one_hot(torch.where(known, target, 1 - target), 2).float()

    task = task_of(valid=split(2, target=[0, 0, 0, 0, 0, 0, 1, 0, 1], bias=[99] * 9))
    labels = labels_of(task, [0, 0, 0, 0, 0, 0, 1, 1, 0])
    fitted = fit(turn(Two([0, 0, 0]), task, 2), context(task, held_out_bias=labels))
    assert (fitted.selected["valid"].epoch, fitted.selected["valid_pseudo"].epoch) == (1, 2)
    plain = fit(turn(Two([0, 0, 0]), task, 2), context(task, "plain"))
    assert "valid_pseudo" not in plain.selected
    assert [row["valid/dial/average"] for row in plain.history] == [row["valid/dial/average"] for row in fitted.history]


def test_unbiased_validation_images_give_no_selection_by_pseudo_labels(context):
    task = replace(task_of(valid=split(2)), selection="valid_unbiased")
    fitted = fit(turn(Dial([0, 1], [0, 1]), task, 1), context(task, held_out_bias=labels_of(task, [0, 1, 0, 1])))
    assert set(fitted.selected) == {"last", "mean", "oracle", "valid_unbiased"}


def test_pseudo_labels_of_other_images_are_refused(context):
    task = task_of(valid=split(2))
    other = BiasLabels(torch.arange(1, 5), torch.tensor([0, 1, 0, 1]), 2, "pseudo")
    with pytest.raises(ValueError, match="other held-out images"):
        fit(turn(Dial([0, 1], [0, 1]), task, 1), context(task, held_out_bias=other))


def test_validation_images_that_are_no_held_out_ones_select_under_their_own_name(context):
    task = replace(task_of(valid=split(2)), selection="valid_unbiased")
    fitted = fit(turn(Dial([0, 1, 4, 2], [0, 1, 2, 4]), task, 3), context(task))
    assert chosen(fitted) == {"last": (3, 3.0), "oracle": (2, 2.0), "valid_unbiased": (3, 3.0)}
    assert "dial/unbiased/valid_unbiased" in fitted.report().summary
    assert not any(name.startswith("valid/") for name in fitted.history[0])


def test_extra_test_sets_are_measured_and_decide_nothing(context):
    """Best on the test set in epoch 2, on the extra one (images of part 2) in epoch 3."""
    tested, other = [0, 1, 4, 2], [0, 3, 1, 4]
    task = replace(task_of(), extra_tests={"grey": split(2, bias=None)})
    fitted = fit(turn(Dial(tested, other), task, 3), context(task))
    plain = fit(turn(Dial(tested, other), task_of(), 3), context(task_of(), "plain"))
    assert chosen(fitted) == chosen(plain) == {"last": (3, 3.0), "oracle": (2, 2.0)}
    assert [row["dial@grey/average"] for row in fitted.history] == [75, 25, 100]
    assert [row["dial/average"] for row in fitted.history] == [25, 100, 50]
    report = fitted.report()
    assert report.summary["dial@grey/average/last"] == report.summary["dial@grey/average/mean"] == 100
    assert report.summary["dial@grey/average/oracle"] == 25
    # No bias labels, so no groups; and the main test set's figures are as without the extra one.
    assert "dial@grey/unbiased/last" not in report.summary
    assert report.matrices["last"]["dial@grey"].tolist() == [[[2], [2]], [[2], [2]]]
    mine = {name: value for name, value in report.summary.items() if "@" not in name}
    assert mine == plain.report().summary


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
    summary = fitted.report().summary
    assert {name: value for name, value in summary.items() if "/average/" in name} == {
        "dial/average/last": 50.0, "dial/average/mean": 50.0, "dial/average/oracle": 75.0
    }  # fmt: skip
    assert {name.split("/")[1] for name in summary}.isdisjoint({*GROUP_FIGURES, "reweighted"} - {"average"})


@pytest.mark.parametrize(
    ("epochs", "mean", "right"), [(1, 1.0, 1), (3, 3.0, 3), (4, 4.0, 4), (8, 7.5, 3), (12, 11.0, 2)]
)
def test_the_mean_is_that_of_the_weights_of_the_last_quarter(context, epochs, mean, right):
    """Of 8 epochs those of 7 and 8, which is evaluated as the dial's step 7."""
    task = task_of()
    model = Dial([0, 1, 2, 3, 4, 0, 0, 3, 1, 0, 0, 2, 0])
    fitted = fit(turn(model, task, epochs), context(task))
    assert float(fitted.states()["mean"]["turned"]) == mean
    assert fitted.report().summary["dial/unbiased/mean"] == 25 * right
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


def test_an_update_leaves_no_gradient_behind_for_the_next_one(context):
    task = task_of()
    first, second = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
    model = Dial([0] * 9)
    model.first, model.second = first, second
    updates = [
        Update(lambda batch: first * second, SGD([first], lr=0.0)),
        Update(lambda batch: second, SGD([second], 1.0)),
    ]
    job = turn(model, task, 1)
    job.updates = updates
    fit(job, context(task))
    # One step against a slope of 1; with the first loss's slope it would have been 2.
    assert float(second.detach()) == 0.0


def test_scalars_that_come_with_a_loss_are_means_over_the_epoch(context):
    task = task_of()
    model = Dial([0] * 9)

    def loss(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return -model.turned, {"train/place": batch.index.sum(), "end/turned": 2 * model.turned}

    logged: list[tuple[str, float, int]] = []
    job = turn(model, task, 2)
    job.updates, job.batches = [Update(loss, SGD(model.parameters(), lr=1.0))], Batches(task.train, 2)
    rows = fit(job, context(task, log=lambda *entry: logged.append(entry))).history
    # Two batches of two of the images 0 to 3; the dial stands at 0 and 1, then at 2 and 3.
    assert [row["train/place"] for row in rows] == [3, 3]
    assert [row["end/turned"] for row in rows] == [1, 5]
    assert [row["loss"] for row in rows] == [-0.5, -2.5]
    assert ("dial/train/place", 3.0, 2) in logged


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
            noise.extend((float(torch.rand((), generator=ctx.generator)), float(torch.rand(()))))
            return -model.turned

        job.updates = [Update(loss, SGD(model.parameters(), lr=1.0))]
        fit(job, ctx)
        return noise

    drawn = {"a": run("a"), "again": run("b"), "seed": run("c", seed=2), "stage": run("d", stage="other")}
    assert drawn["a"] == drawn["again"]
    assert len({value for name in ("a", "seed", "stage") for value in drawn[name]}) == 18
