"""Scores and bias labels by image id, the flags of suspects, and the figures of a miner."""

import math
import re
from dataclasses import replace

import pytest
import torch

from debias.catalogue import known_settings
from debias.data.batches import Batches
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.stages.common.classifier import difficulty
from debias.stages.common.scores import (
    bias_artifact,
    flags_for,
    groups_for,
    labels_for,
    mined_scores,
    mining_figures,
    report_of,
    score_artifact,
    scores_for,
)
from debias.stages.recipes import STAGES
from debias.training.loop import fit_alone

MINERS = [name for name, stage in STAGES.items() if "conflict_score" in stage.gives and name != "mine_none"]


def split_of(ids, target=None, bias=None) -> Split:
    ids = torch.tensor(ids, dtype=torch.int64)
    target = torch.zeros_like(ids) if target is None else torch.tensor(target)
    bias = None if bias is None else torch.tensor(bias)
    return Split(torch.zeros(len(ids), 1, 2, 2, dtype=torch.uint8), target, bias, ids)


ARTIFACT = score_artifact(torch.tensor([40, 10, 30, 20]), torch.tensor([0.4, 0.1, 0.3, 0.2]), 0.25, "test")


@pytest.mark.parametrize("ids", [[40, 10, 30, 20], [10, 20, 30, 40], [30, 10], [20], [20, 20, 40], []])
def test_values_follow_the_ids_of_the_split(ids):
    values = scores_for(ARTIFACT, split_of(ids), "prune")
    assert torch.equal(values, torch.tensor([i / 100 for i in ids], dtype=torch.float32))


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([10, 25, 20], "prune: 1 of 3 training images have no score .first id 25.; it was computed on other data"),
        ([50, 5], "2 of 2 training images have no score .first id 50."),
        ([10, 20, 30, 40, 41], "1 of 5 .* .first id 41."),
    ],
)
def test_unknown_images(ids, says):
    with pytest.raises(UserError, match=says):
        scores_for(ARTIFACT, split_of(ids), "prune")


def test_an_artifact_of_no_images():
    empty = bias_artifact(torch.tensor([], dtype=torch.int64), torch.tensor([]), 3, "true")
    assert labels_for(empty, split_of([]), "group_dro").shape == (0,)
    with pytest.raises(UserError, match=r"group_dro: 2 of 2 training images have no label .first id 7."):
        labels_for(empty, split_of([7, 8]), "group_dro")


def test_artifacts_are_plain_and_on_the_cpu():
    artifact = score_artifact(torch.tensor([1, 2, 3]), torch.tensor([-0.1, 0.5, 1.2]).double(), 0.5, "test")
    assert artifact.score.dtype == torch.float32
    assert artifact.score.tolist() == [0.0, 0.5, 1.0]
    assert artifact.threshold == 0.5 and artifact.miner == "test"
    labels = bias_artifact(torch.tensor([1, 2]), torch.tensor([1.0, 0.0]), 2, "pseudo")
    assert labels.label.dtype == torch.int64 and labels.n_biases == 2 and labels.kind == "pseudo"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(bad):
    with pytest.raises(UserError, match=r"mine_gce: scores are not finite; .* lower the learning rate"):
        score_artifact(torch.tensor([1, 2]), torch.tensor([0.5, bad]), 0.5, "mine_gce")


def flags_and_lines(context, task, score, threshold=0.5):
    said: list[str] = []
    ctx = context("prune", task=task, say=said.append)
    return flags_for(score_artifact(task.train.ids, score, threshold, "mine_gce"), ctx.train, ctx), said


def test_flags_are_what_lies_above_the_threshold(context, task):
    score = torch.linspace(0, 1, len(task.train))
    flags, said = flags_and_lines(context, task, score, float(score[100]))
    assert torch.equal(flags, torch.arange(len(score)) > 100)
    assert said == []


@pytest.mark.parametrize("stage", ["prune", "finetune"])
@pytest.mark.parametrize("miner", [*MINERS, "my_miner"])
def test_nothing_mined_stops_what_needs_suspects(context, task, stage, miner):
    """Naming the miner and a setting to change, in one line."""
    ctx = context(stage, task=task)
    nothing = score_artifact(task.train.ids, torch.zeros(len(task.train)), 0.5, miner)
    with pytest.raises(UserError) as refused:
        flags_for(nothing, ctx.train, ctx)
    line = str(refused.value)
    said = f"{stage} weighs suspects up, and {miner} found NO suspect among {len(task.train)} training images: "
    assert line.startswith(said) and "\n" not in line
    # Settings that it names are there.
    named = re.findall(r"\b(\w+\.\w+)\b", line.removeprefix(said))
    assert (named or miner in ("my_miner", "mine_oracle")) and set(named) <= set(known_settings())


def test_none_asked_for_is_none_to_weigh(context, task):
    said: list[str] = []
    ctx = context("prune", task=task, say=said.append)
    none = score_artifact(task.train.ids, torch.zeros(len(task.train)), 0.5, "mine_none")
    flags = flags_for(none, ctx.train, ctx)
    assert not flags.any()
    assert said == ["prune: mine_none mined no image at all; every image weighs the same"]
    batches = Batches(task.train, 32, weights=1 + 79 * flags.float())
    assert batches.weights is not None and torch.equal(batches.weights, torch.ones(len(task.train)))


@pytest.mark.parametrize("miner", MINERS)
def test_a_miner_without_suspects_says_so(context, task, miner):
    said: list[str] = []
    ctx = context(miner, task=task, say=said.append)
    few = torch.zeros(len(task.train))
    few[7] = 0.6
    assert mined_scores(ctx, few, 0.5).miner == miner and said == []
    mined_scores(ctx, few, 0.6)
    (line,) = said
    assert line.startswith(f"{miner} found NO suspect among {len(task.train)} training images: ")


def test_pseudo_labels_that_set_nothing_against_anything(task):
    train, target = task.train, task.train.target
    same = bias_artifact(train.ids, target, 10, "pseudo")
    with pytest.raises(UserError, match="bias_balanced: the pseudo bias labels name every training image's own class"):
        groups_for(same, train, "bias_balanced")
    assert torch.equal(groups_for(bias_artifact(train.ids, target, 10, "true"), train, "end"), target)
    one = target.clone()
    one[3] = (one[3] + 1) % 10
    assert torch.equal(groups_for(bias_artifact(train.ids, one, 10, "pseudo"), train, "end"), one)


def test_nothing_mined_of_a_class_is_said(context, task):
    target = task.train.target
    flags, said = flags_and_lines(context, task, ((target != 3) & (target != 7)).float())
    assert int(flags.sum()) == int(((target != 3) & (target != 7)).sum())
    names = f"{task.target_names[3]}, {task.target_names[7]}"
    assert said == [f"prune: mine_gce mined no image of {names}; these are not up-weighted"]


@pytest.mark.parametrize("stage", ["prune", "finetune"])
def test_suspects_are_drawn_so_many_times_as_often(run_tiny, task, stage):
    """The share of draws of k suspects among n images is u k / (u k + n - k)."""
    drawn: list[Batches] = []

    class Spy:
        def fit(self, job, ctx):
            if ctx.stage == stage:
                drawn.append(job.batches)
            return fit_alone(job, ctx)

    words = (f"{stage}.steps=0", f"{stage}.epochs=1", f"{stage}.batch_size=480", f"{stage}.upweight=9.0")
    run_tiny(f"method=[pretrain,mine_oracle,{stage}]", "pretrain.epochs=1", *words, task=task, together=Spy())
    (batches,) = drawn
    conflicting = task.train.bias != task.train.target
    assert batches.weights is not None
    assert torch.equal(batches.weights, torch.where(conflicting, 9.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    index = torch.cat([batch.index for _ in range(40) for batch in batches.epoch(generator)])
    n, k = len(conflicting), int(conflicting.sum())
    share = 9 * k / (9 * k + n - k)
    spread = math.sqrt(share * (1 - share) / len(index))
    assert abs(float(conflicting[index].float().mean()) - share) < 4 * spread


def test_difficulty_is_above_one_half_exactly_when_wrong():
    generator = torch.Generator().manual_seed(0)
    for scale in (0.0, 0.01, 1.0, 30.0, 1000.0):
        for classes in (2, 3, 10):
            logits = scale * torch.randn(400, classes, generator=generator)
            target = torch.randint(classes, (400,), generator=generator)
            value = difficulty(logits, target)
            assert torch.equal(value > 0.5, logits.argmax(1) != target)
            assert bool(((value >= 0) & (value <= 1)).all())


def test_difficulty_by_hand():
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7]]).log()
    assert difficulty(logits, torch.tensor([0, 1, 1])).tolist() == pytest.approx([0.1, 0.9, 0.15])


def made_of(train):
    return Task("made", train, train, None, ("a", "b"), ("x", "y"), "0")


def test_mining_figures_by_hand():
    """Suspects are images 0, 1, 3; conflicting ones 0, 3, 4. By score: hit, miss, hit, miss, hit."""
    train = split_of(range(6), target=[0, 1, 0, 1, 0, 1], bias=[1, 1, 0, 0, 1, 1])
    score = torch.tensor([0.9, 0.8, 0.4, 0.7, 0.3, 0.1])
    task = made_of(train)
    figures = mining_figures(score, 0.5, task)
    assert figures == pytest.approx(
        {
            "mined/share/train": 50.0,
            "mined/precision/train": 100 * 2 / 3,
            "mined/recall/train": 100 * 2 / 3,
            "mined/average_precision/train": 100 * (1 + 2 / 3 + 3 / 5) / 3,
            "mined/first_50/train": 50.0,  # of six images three conflict
        }
    )
    assert mining_figures(score, 0.5, made_of(train.without_bias())) == {"mined/share/train": 50.0}
    assert report_of(figures).summary == figures


@pytest.mark.parametrize(
    ("score", "bias", "absent"),
    [
        ([0.1, 0.2], [1, 0], {"mined/precision/train"}),
        ([0.9, 0.2], [0, 1], {"mined/recall/train", "mined/average_precision/train"}),
    ],
)
def test_figures_without_a_value_are_left_out(score, bias, absent):
    figures = mining_figures(torch.tensor(score), 0.5, made_of(split_of([0, 1], target=[0, 1], bias=bias)))
    assert all(math.isfinite(value) for value in figures.values())
    assert not absent & set(figures) and "mined/share/train" in figures


def test_values_of_a_held_out_subset(task):
    """Ids survive a subset, so what was mined on all images serves any part of them."""
    artifact = score_artifact(task.train.ids, torch.rand(len(task.train)), 0.5, "test")
    chosen = torch.randperm(len(task.train))[:50]
    part = replace(task.train.subset(chosen), bias=None)
    assert torch.equal(scores_for(artifact, part, "prune"), artifact.score[chosen])
