"""Passes over the data, or steps: how many images are drawn, and in how many rounds."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from debias.errors import UserError
from debias.stages.common.budget import training_batches
from debias.training.job import Job, Update
from debias.training.loop import fit

OWN = {"batch_size": 32, "epochs": 7, "steps": 0, "evaluate_every": 5}


def drawn(batches, seed=0):
    return [batch.index for batch in batches.epoch(torch.Generator().manual_seed(seed))]


def test_epochs_are_passes(context, task):
    batches, rounds = training_batches(context("pretrain"), OWN)
    parts = drawn(batches)
    assert rounds == 7
    assert len(parts) == len(batches) == -(-len(task.train) // 32)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(len(task.train)))


@pytest.mark.parametrize(
    ("steps", "every", "rounds", "batches_each"), [(20, 5, 4, 5), (5, 5, 1, 5), (3, 500, 1, 3), (1, 1, 1, 1)]
)
def test_steps_are_evaluated_now_and_then(context, steps, every, rounds, batches_each):
    batches, given = training_batches(context("pretrain"), {**OWN, "steps": steps, "evaluate_every": every})
    assert (given, len(batches)) == (rounds, batches_each)
    assert [len(part) for part in drawn(batches)] == [32] * batches_each
    assert given * len(batches) == steps


def test_steps_beyond_a_pass_repeat_no_image_before_all_came(context, task):
    """40 batches of 32 are 1280 draws from 480 images: two whole passes, and a part of a third."""
    batches, _ = training_batches(context("pretrain"), {**OWN, "steps": 40, "evaluate_every": 40})
    index = torch.cat(drawn(batches))
    n = len(task.train)
    assert len(index) == 1280 and n == 480
    assert torch.equal(index[:n].sort().values, torch.arange(n))
    assert set(torch.bincount(index, minlength=n).tolist()) == {2, 3}


def test_steps_that_do_not_divide(context):
    says = "prune.steps=12 is not a multiple of prune.evaluate_every=5; change either"
    with pytest.raises(UserError, match=says):
        training_batches(context("prune"), {**OWN, "steps": 12})


def test_a_stage_without_steps(context, task):
    batches, rounds = training_batches(context("pretrain"), {"batch_size": 100, "epochs": 2})
    assert (rounds, len(batches)) == (2, -(-len(task.train) // 100))


def test_weights_and_the_last_batch(context, task):
    n = len(task.train)
    weights = torch.zeros(n)
    weights[7] = 1.0
    batches, _ = training_batches(context("pretrain"), {**OWN, "batch_size": 100}, weights=weights, drop_last=True)
    assert len(batches) == n // 100 != n / 100
    assert set(torch.cat(drawn(batches)).tolist()) == {7}
    weighted, _ = training_batches(context("pretrain"), {**OWN, "steps": 10, "evaluate_every": 5}, weights=weights)
    assert len(torch.cat(drawn(weighted))) == 5 * 32


def test_bias_labels_are_in_batches_only_when_declared(context):
    def bias(stage):
        return next(training_batches(context(stage), OWN)[0].epoch()).bias

    assert bias("pretrain") is None and bias("mine_depth") is None
    assert bias("mine_oracle") is not None


def test_too_few_images_for_a_batch(context):
    with pytest.raises(UserError, match="480 images do not make one batch of batch_size=481"):
        training_batches(context("branches"), {**OWN, "batch_size": 481}, drop_last=True)


@pytest.mark.parametrize(("size", "each"), [(479, [479]), (478, [478, 2]), (480, [480])])
def test_a_last_batch_of_one_image_is_left_out(context, size, each):
    batches, _ = training_batches(context("pretrain"), {**OWN, "batch_size": size})
    assert [len(part) for part in drawn(batches)] == each
    # The one that is left out is another one in the next pass.
    if size == 479:
        left = {(set(range(480)) - set(drawn(batches, seed)[0].tolist())).pop() for seed in range(5)}
        assert len(left) > 1


def normalised(task):
    inputs = task.train.images[torch.arange(1)].numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.Linear(8, task.n_targets))


def training(context, task, size):
    model = normalised(task)
    batches, rounds = training_batches(context, {**OWN, "batch_size": size, "epochs": 1})
    update = Update(lambda batch: cross_entropy(model(batch.images), batch.target), SGD(model.parameters(), lr=0.1))
    return Job(model, [update], batches, rounds, lambda images: {"model": model(images)}, "model")


def test_batch_normalisation_trains_on_all_but_the_last_image(context, task):
    ctx = context("pretrain")
    assert len(fit(training(ctx, task, 479), ctx).history) == 1


def test_batches_of_one_with_batch_normalisation_are_refused_in_words(context, task):
    ctx = context("pretrain")
    with pytest.raises(UserError, match=r"pretrain: batch normalisation needs more than one image .* at least 2"):
        fit(training(ctx, task, 1), ctx)
