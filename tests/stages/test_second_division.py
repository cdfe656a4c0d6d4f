"""Baselines on inputs that are divided by 255 once more: the loss by hand, who does it, and what it leaves alone."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.models.registry import build_classifier
from debias.stages.recipes import STAGES
from debias.training.evaluation import map_images
from tests.pipeline import short

BASELINES = [name for name, stage in STAGES.items() if "second_division" in stage.settings]


def test_the_loss_is_that_of_inputs_divided_twice(run_tiny, task):
    still = ("pretrain.learning_rate=0", "pretrain.batch_size=480", "pretrain.second_division=True")
    outcome = run_tiny(*short("erm", 1), *still, task=task)
    spec = outcome.artifacts["model"].spec
    assert spec["backbone"] == "mlp3_divided"
    plain = build_classifier({**spec, "backbone": "mlp3"})
    state = outcome.artifacts["model"].states["last"]
    plain.load_state_dict({name.replace("network.", ""): value for name, value in state.items()})
    small = task.train.images.float() / 255 / 255
    expected = float(cross_entropy(plain(small).detach().double(), task.train.target))
    assert outcome.stages["pretrain"].report.history[0]["loss"] == pytest.approx(expected, rel=1e-6)
    whole = float(cross_entropy(plain(255 * small).detach().double(), task.train.target))
    assert abs(whole - expected) > 1e-3


@pytest.mark.parametrize("stage", BASELINES)
def test_figures_change_and_the_model_holds_it(run_tiny, task, stage):
    """What is stored is the network with its division, so that it is evaluated and exported as it was trained."""
    method = {"pretrain": "erm", "group_dro": "[true_bias,group_dro]"}.get(stage, f"[{stage}]")
    ours = run_tiny(*short(method, 3), task=task)
    theirs = run_tiny(*short(method, 3), f"{stage}.second_division=True", task=task)
    losses = [each.stages[stage].report.history[-1]["loss"] for each in (ours, theirs)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)
    artifact = theirs.artifacts["model"]
    assert str(artifact.spec["backbone"]).endswith("_divided")
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert theirs.summary["model/average/last"] == pytest.approx(100 * float(right.double().mean()))


def test_other_networks_take_their_inputs_as_they_are(run_tiny, task):
    words = (*short("erm", 1), "pretrain.network=cnn")
    ours = run_tiny(*words, task=task)
    theirs = run_tiny(*words, "pretrain.second_division=True", task=task)
    for name, value in ours.artifacts["model"].states["last"].items():
        assert torch.equal(value, theirs.artifacts["model"].states["last"][name]), name


def test_it_is_off_unless_the_published_way_is_asked_for(configured):
    assert {"pretrain", "lff", "group_dro"} <= set(BASELINES)
    ours, theirs = configured("everything=True"), configured("everything=True", "reference")
    for stage in BASELINES:
        assert ours[stage]["second_division"] is False and theirs[stage]["second_division"] is True
    # DeNetDM's own networks do without.
    assert theirs["branches"] == ours["branches"] and theirs["distill"]["network"] == ours["distill"]["network"]


def test_jtt_goes_on_with_the_network_it_began_with(run_tiny, task):
    outcome = run_tiny(*short("jtt", 1), "pretrain.second_division=True", task=task)
    assert outcome.artifacts["model"].spec["backbone"] == "mlp3_divided"
