"""Methods that want bias labels: their losses by hand, true and pseudo labels, and what is kept for a resume."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.stages.recipes import STAGES
from debias.training.evaluation import map_images
from tests.pipeline import same, short

N = 480


@pytest.fixture
def run(run_tiny, task, tmp_path):
    def run(method, *words, **also):
        return run_tiny(*short(method), *words, **{"task": task, **also})

    return run


def still(stage, epochs=1):
    """One batch of all images an epoch, and weights that stay as first drawn."""
    return (
        f"{stage}.learning_rate=0",
        f"{stage}.weight_decay=0",
        f"{stage}.batch_size={N}",
        f"{stage}.epochs={epochs}",
    )


def logits_of(artifact, task):
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    return map_images(model.eval(), task, task.train).clone()


def balanced_by_hand(logits, target, bias, n_targets, n_biases):
    """Mean of -log softmax(logits + log p(target | bias)), image by image; an empty cell counts half an image."""
    total = 0.0
    cells = [[0.0] * n_targets for _ in range(n_biases)]
    for y, b in zip(target.tolist(), bias.tolist(), strict=True):
        cells[b][y] += 1
    cells = [[max(count, 0.5) for count in row] for row in cells]
    for row, y, b in zip(logits.double().tolist(), target.tolist(), bias.tolist(), strict=True):
        odds = [math.exp(z) * share / sum(cells[b]) for z, share in zip(row, cells[b], strict=True)]
        total -= math.log(odds[y] / sum(odds))
    return total / len(target)


@pytest.mark.parametrize("method", ["[true_bias,bias_balanced]", "[branches,mine_depth,bias_balanced]"])
def test_the_bias_balanced_loss(run, task, method):
    outcome = run(method, *still("bias_balanced"))
    bias = outcome.artifacts["bias"]
    assert bias.kind == ("true" if "true_bias" in method else "pseudo")
    labels = task.train.bias if bias.kind == "true" else bias.label
    expected = balanced_by_hand(logits_of(outcome.artifacts["model"], task), task.train.target, labels, 10, 10)
    history = outcome.stages["bias_balanced"].report.history
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    plain = float(cross_entropy(logits_of(outcome.artifacts["model"], task), task.train.target))
    assert abs(expected - plain) > 0.1


def group_losses_by_hand(logits, target, bias):
    each = cross_entropy(logits, target, reduction="none")
    return {(y, b): float(each[(target == y) & (bias == b)].mean()) for y in range(10) for b in range(10)
            if bool(((target == y) & (bias == b)).any())}  # fmt: skip


def interrupted(run, method, *words, stage, after):
    """Stop a run when the epoch behind `after` is logged; the tensors of its checkpoint."""

    def stop(name, value, epoch):
        if name == f"{stage}/loss" and epoch == after + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(method, *words, "checkpoint_seconds=0.0", log=stop)


def checkpoint_in(folder, stage):
    (path,) = folder.glob(f"stages/{stage}-*/checkpoint.pt")
    return torch.load(path, weights_only=True)


def test_group_weights_are_a_distribution_and_are_checkpointed(run, task, tmp_path):
    """Equal weights times exp(eta * the group's loss), normalised; groups without an image keep theirs before that."""
    words = still("group_dro", 2)
    interrupted(run, "group_dro", *words, "group_dro.eta=0.5", stage="group_dro", after=1)
    checkpoint = checkpoint_in(tmp_path, "group_dro")
    q = checkpoint["tensors"]["q"]
    assert q.shape == (100,) and float(q.min()) > 0 and float(q.sum()) == pytest.approx(1, abs=1e-5)

    outcome = run("group_dro", *words, "group_dro.eta=0.5")
    losses = group_losses_by_hand(logits_of(outcome.artifacts["model"], task), task.train.target, task.train.bias)
    assert 10 < len(losses) < 100
    odds = [math.exp(0.5 * losses.get((group // 10, group % 10), 0.0)) for group in range(100)]
    assert q.tolist() == pytest.approx([value / sum(odds) for value in odds], rel=1e-4)
    history = outcome.stages["group_dro"].report.history
    expected = sum(value / sum(odds) * losses.get((g // 10, g % 10), 0.0) for g, value in enumerate(odds))
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    # The second epoch goes on from the first one's weights.
    odds = [q * math.exp(0.5 * losses.get((g // 10, g % 10), 0.0)) for g, q in enumerate(q.tolist())]
    expected = sum(value / sum(odds) * losses.get((g // 10, g % 10), 0.0) for g, value in enumerate(odds))
    assert history[1]["loss"] == pytest.approx(expected, rel=1e-4)


def test_group_weights_survive_an_interruption(run, tmp_path):
    words = ("group_dro.epochs=3", "group_dro.eta=1.0", "checkpoint_seconds=0.0")
    interrupted(run, "group_dro", *words, stage="group_dro", after=2)
    said: list[str] = []
    resumed = run("group_dro", *words, say=said.append)
    assert any("group_dro: resuming after epoch 2 of 3" in line for line in said)
    whole = run("group_dro", *words, store=tmp_path / "whole")
    same(resumed.artifacts, whole.artifacts)
    same(resumed.stages["group_dro"].report.history, whole.stages["group_dro"].report.history)


@pytest.mark.parametrize("stage", ["group_dro", "bias_balanced"])
def test_labels_are_taken_by_id(run, context, task, stage):
    """The same labels in another order give the same training; labels of other images are refused."""
    bias = run("[true_bias]").artifacts["bias"]
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    moved = replace(bias, ids=bias.ids[shuffled], label=bias.label[shuffled])
    short_of_one = replace(bias, ids=bias.ids[1:], label=bias.label[1:])
    words = short(f"[true_bias,{stage}]", 1)
    one, other = (STAGES[stage].run({"bias": given}, context(stage, *words)) for given in (bias, moved))
    same(other["model"], one["model"])
    with pytest.raises(UserError, match=f"{stage}: 1 of {N} training images have no label"):
        STAGES[stage].run({"bias": short_of_one}, context(stage, *words))


@pytest.mark.parametrize("stage", ["group_dro", "bias_balanced"])
def test_a_training_that_diverges(run, stage):
    words = (f"{stage}.optimiser=sgd", f"{stage}.learning_rate=1e30", f"{stage}.epochs=3")
    with pytest.raises(UserError, match=f"{stage}: .* has diverged: the loss .*; set a lower {stage}.learning_rate"):
        run(f"[true_bias,{stage}]", *words)


def test_groups_may_be_drawn_as_often_as_each_other(run, task):
    """In a batch of 20 a group has an image with chance 1 - (1 - 1/G)^20, however many images it has."""
    words = (*still("group_dro", epochs=40), "group_dro.eta=0", "group_dro.batch_size=20")
    outcomes = {draw: run("group_dro", *words, f"group_dro.draw={draw}") for draw in ("groups", "images")}
    losses = {
        draw: sum(row["loss"] for row in outcome.stages["group_dro"].report.history) / 40
        for draw, outcome in outcomes.items()
    }
    logits = logits_of(outcomes["groups"].artifacts["model"], task)
    found = group_losses_by_hand(logits, task.train.target, task.train.bias)
    expected = (1 - (1 - 1 / len(found)) ** 20) * sum(found.values()) / 100
    assert losses["groups"] == pytest.approx(expected, rel=0.05)
    assert abs(losses["images"] - expected) > 0.1 * expected
