"""Training with an operator that is chosen without labels: rates, ways, trials, and what is done where none helps."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from debias.data.operators import CONTROL, OPERATORS, Operator
from debias.data.split import Split, Task
from debias.losses.reweight import log_prior
from debias.models.registry import build_classifier
from debias.stages.common.moving import Mover, Rates, rates_of, right_under
from debias.stages.common.ways import (
    ALIKE,
    FALLBACK,
    Decision,
    Trial,
    Way,
    packed,
    told,
    unpacked,
    ways_to_try,
)
from debias.stages.recipes import STAGES
from debias.stages.transfer import Transfer, Trials, trial_passes
from debias.training.artifacts import BiasLabels, TrainedModel
from debias.training.stage import Context
from tests.pipeline import short

CLASSES, SIDE = 3, 8
# How strong the colour is, so that a network takes it up first, and how strong the shape.
COLOUR, SHAPE = 90, 15


def made(count: int, conflicting: float, seed: int, first_id: int = 0) -> Split:
    """Images whose target is the third of the rows that is bright, and whose bias is the channel that is."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(count) % CLASSES
    against = torch.rand(count, generator=generator) < conflicting
    bias = torch.where(against, (target + 1 + torch.randint(2, (count,), generator=generator)) % CLASSES, target)
    images = torch.randint(0, 60, (count, 3, SIDE, SIDE), generator=generator)
    for place in range(count):
        rows = slice(int(target[place]) * 3, int(target[place]) * 3 + 2)
        images[place, :, rows] += SHAPE
        images[place, int(bias[place])] += COLOUR
    return Split(images.to(torch.uint8), target, bias, torch.arange(first_id, first_id + count))


@pytest.fixture(scope="module")
def coloured() -> Task:
    names = ("a", "b", "c")
    return Task("made", made(1200, 0.03, 1), made(300, 2 / 3, 2, 5000), None, names, names, "key")


@pytest.fixture(scope="module")
def shortcut(coloured) -> TrainedModel:
    """A network that has learnt the colour alone, as an artifact."""
    spec = {"backbone": "mlp3", "shape": list(coloured.image_shape), "classes": CLASSES}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_classifier(spec)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        unbiased = made(1200, 2 / 3, 3)  # the bias as the label: nothing else tells it
        for _ in range(60):
            optimiser.zero_grad()
            cross_entropy(model(unbiased.images.float() / 255), unbiased.bias).backward()
            optimiser.step()
    return TrainedModel(spec, {"last": model.state_dict()}, "biased", "made")


@pytest.fixture
def inputs(coloured, shortcut) -> dict[str, Any]:
    train = coloured.train
    return {
        "shortcut": shortcut,
        "bias": BiasLabels(train.ids, train.bias, CLASSES, "pseudo"),
    }


@pytest.fixture
def transfer(context, coloured, inputs):
    """transfer("transfer.least=90", task=…): what the stage gives, and the lines it says."""

    def run(*words: str, task: Task = coloured, **changed: Any):
        said: list[str] = []
        small = ("transfer.network=mlp3", "transfer.batch_size=64", "transfer.epochs=10", "transfer.trial_epochs=3")
        ctx: Context = context("transfer", *small, *words, task=task, say=said.append)
        return Transfer().run({**inputs, **changed}, ctx), said

    return run


def test_a_mover_gives_a_share_of_the_images_a_property_of_others(coloured):
    images = coloured.train.images[:200].float() / 255
    whole = Mover(OPERATORS["channel_means"], 1.0, coloured)(images, torch.Generator().manual_seed(1))
    assert bool(whole.moved.all())
    assert torch.equal(whole.images.mean((2, 3)).argmax(1), images[whole.donor].mean((2, 3)).argmax(1))
    half = Mover(OPERATORS["channel_means"], 0.5, coloured)(images, torch.Generator().manual_seed(1))
    assert torch.equal(half.donor, whole.donor) and 70 < int(half.moved.sum()) < 130
    assert torch.equal(half.images[half.moved], whole.images[half.moved])
    assert torch.equal(half.images[~half.moved], images[~half.moved])
    # Whatever the target: of 3 classes every donor's class is as likely.
    target = coloured.train.target
    big = torch.zeros(1200, 1, 1, 1)
    donor = Mover(OPERATORS[CONTROL], 1.0, coloured)(big, torch.Generator().manual_seed(2)).donor
    same = float((target[donor] == target).float().mean())
    assert 0.28 < same < 0.39


def test_training_takes_away_what_measuring_only_moves(coloured):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    half = replace(OPERATORS["mix"], thorough=lambda x, z: z)
    given = Mover(half, 1.0, coloured)(images, torch.Generator().manual_seed(1))
    assert torch.equal(given.images, images[given.donor])


def test_operators_see_images_as_they_are_before_normalisation(coloured):
    seen = []
    spy = Operator("spy", "", "", lambda x, z: seen.append(x) or z)
    task = replace(coloured, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    plain = coloured.train.images[:10].float() / 255
    centre, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (task.mean, task.std))
    given = Mover(spy, 1.0, task)((plain - centre) / spread, torch.Generator().manual_seed(1))
    assert torch.allclose(seen[0], plain, atol=1e-6)
    assert torch.allclose(given.images, ((plain - centre) / spread)[given.donor], atol=1e-5)


class Brightest(nn.Module):
    """Answers which channel is the brightest."""

    def forward(self, images):
        return images.mean((2, 3))


def test_rates_of_operators_on_a_network_that_is_known(coloured):
    ctx: Any = SimpleNamespace(
        task=coloured, train=coloured.train.without_bias(), device=torch.device("cpu"), seed=1, stage="transfer"
    )
    reader = lambda images: torch.stack([images[:, :, 3 * i : 3 * i + 2].mean((1, 2, 3)) for i in range(3)], 1)  # noqa: E731
    chosen = {name: OPERATORS[name] for name in (CONTROL, "channel_means", "patch_0_0")}
    rates = rates_of(chosen, Brightest(), reader, coloured.train.bias, 600, ctx)
    assert rates[CONTROL] == (0.0, 100.0, 100.0)
    assert rates["channel_means"].transferred > 99 and rates["channel_means"].stays < 1
    assert rates["channel_means"].kept is not None and rates["channel_means"].kept > 95
    assert rates["patch_0_0"].transferred < 5 and rates["patch_0_0"].stays > 95
    assert rates_of(chosen, Brightest(), None, coloured.train.bias, 600, ctx)[CONTROL].kept is None
    # Where all look alike there are no pairs.
    assert rates_of(chosen, Brightest(), None, torch.zeros(1200, dtype=torch.int64), 600, ctx) == {}


OWN = {"operator": "chosen", "share": 0.0, "loss": "chosen", "least": 40.0, "most": 2}


def test_what_a_network_gets_right_under_an_operator(coloured):
    """One that follows the brightest channel is right about as often as a donor has the class, one of three times."""
    ctx: Any = SimpleNamespace(task=coloured, device=torch.device("cpu"), seed=1, stage="transfer")
    chosen = {name: OPERATORS[name] for name in (CONTROL, "channel_means", "patch_0_0")}
    # Fewer images of the first class, so that a mean over images would be another.
    split = coloured.train.subset(torch.nonzero((coloured.train.target != 0) | (torch.arange(1200) < 900)).flatten())
    found = right_under(chosen, Brightest(), split, ctx)
    rights = [float((split.bias == split.target)[split.target == c].float().mean()) for c in range(CLASSES)]
    assert found[CONTROL] == pytest.approx(100 * sum(rights) / 3, abs=1e-3)
    assert 25 < found["channel_means"] < 42 and found["patch_0_0"] > 90
    assert right_under({}, Brightest(), split, ctx) == {}


def test_settings_leave_one_way(transfer):
    own = OWN | {"operator": "noise", "share": 0.25, "loss": "plain"}
    assert ways_to_try({}, own) == [Way("noise", 0.25, "plain")]
    given, said = transfer("transfer.operator=noise", "transfer.share=0.25", "transfer.loss=plain")
    assert given["report"].operator["tried"] == [] and not any("trials" in line for line in said)
    assert given["report"].augmentation == "noise"
    assert given["report"].summary["operator/share/chosen"] == 25.0


def test_the_shortcut_is_found_and_taken_away(transfer, coloured):
    """A network that follows the colour loses it: conflicting images are read as well as aligned ones."""
    given, said = transfer()
    report = given["report"]
    assert OPERATORS[report.operator["chosen"]["operator"]].where == "the colours", said
    assert report.augmentation == report.operator["chosen"]["operator"]
    summary = report.summary
    assert any("mean colour alone tells the class" in line for line in said)
    assert summary["operator/transferred/train"] > 90
    plain, _ = transfer("transfer.operator=nothing", "transfer.share=1", "transfer.loss=plain")
    assert summary["model/conflicting/last"] > 90 > 60 > plain["report"].summary["model/conflicting/last"]
    tried = {(row["operator"], row["share"], row["loss"]): row for row in report.operator["tried"]}
    chosen = tried[tuple(report.operator["chosen"][name] for name in ("operator", "share", "loss"))]
    assert chosen["least"] >= max(row["least"] for row in tried.values()) - report.operator["margin"]
    assert chosen["least"] == min(chosen["balanced"], *chosen["moved"].values()) > 80
    assert summary["operator/balanced/held_out"] == chosen["balanced"]
    assert summary["operator/least/held_out"] == chosen["least"]
    # What still has some of the shortcut minds that it moves.
    assert min(tried[(CONTROL, 0.0, "balanced")]["moved"].values()) < chosen["least"] - 5
    assert any("the least of that as they are and under channel_means" in line for line in said)


def test_what_is_tried_and_asked_about_has_no_content_in_it(transfer, monkeypatch):
    monkeypatch.setattr(
        "debias.stages.transfer.without_content",
        lambda rates, properties: {name: rates[name] for name in (CONTROL, "channel_means")},
    )
    rows = transfer("transfer.trial_epochs=1", "transfer.epochs=1")[0]["report"].operator["tried"]
    assert {row["operator"] for row in rows} == {"channel_means", CONTROL}
    assert all(set(row["moved"]) == {"channel_means"} for row in rows)


def test_images_as_they_are_do_not_hide_a_shortcut_that_stays(transfer, coloured, inputs):
    """No image conflicts by its pseudo label, so that the shortcut does best of what is left out as it is."""
    blind = replace(inputs["bias"], label=coloured.train.target.clone())
    given, _ = transfer(bias=blind)
    rows = {(row["operator"], row["share"]): row for row in given["report"].operator["tried"]}
    assert rows[(CONTROL, 0.0)]["balanced"] > 90 and rows[(CONTROL, 0.0)]["least"] < 70
    assert OPERATORS[given["report"].operator["chosen"]["operator"]].where == "the colours"
    assert given["report"].summary["model/conflicting/last"] > 85


def test_where_nothing_moves_the_answers_the_loss_is_balanced_and_that_is_said(transfer, coloured, shortcut):
    """A network that answers one class whatever it is shown."""
    deaf = {name: torch.zeros_like(weights) for name, weights in shortcut.states["last"].items()}
    given, said = transfer(shortcut=replace(shortcut, states={"last": deaf}))
    assert given["report"].operator["chosen"] == {"operator": CONTROL, "share": 0.0, "loss": "balanced"}
    assert given["report"].augmentation == ""
    assert (
        "transfer: no operator takes the shortcut away (none moves 40 % of them): bias-balanced on the pseudo"
        in said[-1]
    )
    # By its loss the tie is broken a little: conflicting images count as much as they are rare.
    plain, _ = transfer("transfer.operator=nothing", "transfer.share=1", "transfer.loss=plain")
    assert given["report"].summary["model/conflicting/last"] > plain["report"].summary["model/conflicting/last"]


def test_no_pairs_no_operator(transfer, coloured):
    """All images look like one class: nothing can be measured, and training goes on."""
    train = coloured.train
    bias = BiasLabels(train.ids, torch.zeros(1200, dtype=torch.int64), CLASSES, "pseudo")
    given, said = transfer(bias=bias)
    assert given["report"].operator["chosen"]["operator"] == CONTROL
    assert given["report"].operator["rates"] == {} and "no operator takes the shortcut away" in said[-1]


def test_neither_test_images_nor_bias_labels_decide(transfer, coloured):
    """Wrong labels of all test images, and of the bias of training images: the same way, and the same weights."""
    one, _ = transfer()
    test, train = coloured.test, coloured.train
    lied = replace(
        coloured,
        train=replace(train, bias=(train.bias + train.ids) % CLASSES),
        test=replace(test, target=(test.target + 1) % CLASSES, bias=(test.bias + test.ids) % CLASSES),
    )
    two, _ = transfer(task=lied)
    assert two["report"].operator == one["report"].operator
    for name, weights in one["model"].states["last"].items():
        assert torch.equal(weights, two["model"].states["last"][name])


@pytest.mark.parametrize(
    "decision",
    [
        Decision(FALLBACK, {}, {}),
        Decision(FALLBACK, {"noise": Rates(50.0, 20.0, None), CONTROL: Rates(0.0, 99.5, None)}, {}),
        Decision(
            Way("noise", 0.5, "balanced"),
            {name: Rates(1.5, 2.5, 3.5) for name in OPERATORS},
            {
                Way("noise", 1.0, "plain"): Trial(30.0, {"noise": 50.0, "blur": 20.0}),
                Way("noise", 0.5, "balanced"): Trial(40.0),
                FALLBACK: Trial(10.0, {"noise": 70.0}),
            },
            2.5,
        ),
    ],
)
def test_a_decision_comes_back_from_a_checkpoint(decision):
    assert unpacked(packed(decision)) == decision
    assert told(unpacked(packed(decision)), 40.0) == told(decision, 40.0)


def test_trials_of_long_trainings_are_longer():
    assert [trial_passes({"trial_epochs": 2, "epochs": epochs}) for epochs in (4, 8, 20)] == [2, 2, 5]


def test_the_prior_of_a_mixture():
    """A share of the images has a bias drawn whatever the target: p(y | b) by hand."""
    target, bias = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    assert torch.equal(log_prior(target, bias, 2, 2, independent=0.0), log_prior(target, bias, 2, 2))
    assert torch.allclose(log_prior(target, bias, 2, 2, independent=1.0).exp(), torch.tensor([[0.75, 0.25]] * 2))
    # Cells of (bias 0: 2, 0; bias 1: 1, 1) and drawn (1.5, .5) each, half of both; none is below half an image.
    expected = torch.tensor([[1.75, 0.5], [1.25, 0.75]])
    found = log_prior(target, bias, 2, 2, independent=0.5).exp()
    assert torch.allclose(found, expected / expected.sum(1, keepdim=True))


def test_an_operator_without_mining(run_tiny, task):
    """A named operator, or one that the seed draws; it is noted, and no artifact of a miner is needed."""
    words = short("erm_operator", 1)
    named = run_tiny(*words, "augmented.operator=border", task=task)
    assert named.stages["augmented"].report.augmentation == "border"
    drawn = {run_tiny(*words, f"seed={seed}", task=task).stages["augmented"].report.augmentation for seed in (1, 2, 3)}
    assert len(drawn) > 1 and drawn <= set(OPERATORS) - {CONTROL}
    assert STAGES["augmented"].needs == ()


@pytest.mark.parametrize(("count", "expected"), [(90, 11.79), (30000, ALIKE)])
def test_small_differences_never_decide(context, coloured, count, expected):
    """A fifth of three cells is left out: 6 images each, or 2,000, of which chance alone would make .65 %."""
    target = torch.arange(count) % CLASSES
    train = Split(torch.zeros(count, 3, 1, 1, dtype=torch.uint8), target, None, torch.arange(count))
    ctx: Context = context("transfer", task=replace(coloured, train=train))
    assert Trials(target, [], ctx).margin == pytest.approx(expected, abs=0.01)
