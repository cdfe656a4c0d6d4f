"""EnD as a stage: its loss by hand on any network, what nought weights leave, whose labels it reads, its schedule."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.losses.end import entangle_disentangle
from debias.models.registry import build_classifier
from debias.stages.common.classifier import step_decay
from debias.training.evaluation import map_images
from tests.pipeline import same, short

N = 480
STILL = ("end.learning_rate=0", "end.weight_decay=0", f"end.batch_size={N}", "end.epochs=1")


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, method="end", **also: run_tiny(*short(method), *words, **{"task": task, **also})


@pytest.mark.parametrize("network", ["mlp3", "cnn", "end_cnn_small"])
@pytest.mark.parametrize("pairs", ["all", "half"])
def test_the_loss_is_that_of_the_paper_on_any_network(run, task, network, pairs):
    """One batch of all images with weights that stay: CE + alpha * R_perp + beta * R_par of the features."""
    outcome = run(*STILL, f"end.network={network}", "end.alpha=0.3", "end.beta=2", f"end.pairs={pairs}")
    artifact = outcome.artifacts["model"]
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    # Batch normalisation as in training; with one batch of all images in whatever order.
    model.train()
    with torch.no_grad():
        features = model.features(task.train.images.float() / 255)
        plain = cross_entropy(model.head(features), task.train.target)
        right = 100 * (model.head(features).argmax(1) == task.train.target).float().mean()
        apart, together = entangle_disentangle(features, task.train.target, task.train.bias, 10, 10)
    (row,) = outcome.stages["end"].report.history
    assert row["train/cross_entropy"] == pytest.approx(float(plain), rel=1e-4)
    assert row["train/accuracy"] == pytest.approx(float(right), abs=0.5)
    assert row["train/r_perp"] == pytest.approx(float(apart), rel=1e-3)
    # Half of the pairs depend on the order.
    assert row["train/r_par"] == pytest.approx(float(together), rel=1e-3 if pairs == "all" else 0.2)
    expected = row["train/cross_entropy"] + 0.3 * row["train/r_perp"] + 2 * row["train/r_par"]
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_nought_weights_leave_cross_entropy_alone(run):
    """The baseline of EnD: the same first weights and order, and no term that could move anything."""
    plain = run("end.alpha=0", "end.beta=0")
    history = plain.stages["end"].report.history
    assert all(row["loss"] == row["train/cross_entropy"] for row in history)
    assert not any(name.startswith("train/r_") for name in history[0])
    debiased = run("end.alpha=0.5", "end.beta=0.5").artifacts["model"].states["last"]
    assert not torch.equal(debiased["head.weight"], plain.artifacts["model"].states["last"]["head.weight"])


def test_the_terms_fall_where_they_are_weighted(run):
    """Trained with a large weight, a term ends lower than without it."""
    words = ("end.epochs=6", "end.learning_rate=0.01")
    last = {
        (alpha, beta): run(*words, f"end.alpha={alpha}", f"end.beta={beta}").stages["end"].report.history[-1]
        for alpha, beta in ((3.0, 1e-6), (1e-6, 3.0))
    }
    apart, together = last[3.0, 1e-6], last[1e-6, 3.0]
    assert apart["train/r_perp"] < 0.7 * together["train/r_perp"]
    assert together["train/r_par"] < 0.7 * apart["train/r_par"]


def test_true_and_pseudo_labels(run):
    """True labels come from the stage that says so; a miner's pseudo labels need none."""
    true = run()
    assert {name: about.needs_bias_labels for name, about in true.stages.items()} == {
        "true_bias": True,
        "end": False,
    }
    mined = run(method="depth_end")
    assert mined.artifacts["bias"].kind == "pseudo"
    assert not any(about.needs_bias_labels for about in mined.stages.values())


def test_the_learning_rate_steps_down(run):
    factor = step_decay(20, 0.1)
    assert [factor(epoch) for epoch in (0, 19, 20, 39, 40)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    # With a factor of nought nothing moves after the first epoch.
    stopped, first = (run(f"end.epochs={epochs}", "end.decay_every=1", "end.decay=0") for epochs in (2, 1))
    same(stopped.artifacts["model"].states["last"], first.artifacts["model"].states["last"])


def test_biased_digits_with_their_two_test_sets(run_tiny):
    """From settings to figures on the data set that the method was made for."""
    words = ("dataset=biased_digits", *short("end", 1), "end.network=end_cnn_small")
    outcome = run_tiny(*words, task=None)
    for selection in ("last", "mean", "oracle", "valid_unbiased"):
        assert f"model/unbiased/{selection}" in outcome.summary
        assert f"model@biased/average/{selection}" in outcome.summary
        # No image of the biased test conflicts.
        assert f"model@biased/conflicting/{selection}" not in outcome.summary
    assert not any(name.endswith("/valid") for name in outcome.summary)
    assert outcome.stages["end"].report.matrices["last"]["model@biased"][1].sum() == 100


def test_features_are_those_in_front_of_the_head(run, task):
    artifact = run("end.network=end_cnn_small").artifacts["model"]
    model = build_classifier(artifact.spec).eval()
    model.load_state_dict(artifact.states["last"])
    lengths = map_images(model.features, task, task.test).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(len(lengths)), atol=1e-5)
