"""ReBias: both losses by hand, who moves when, what HSIC's weights do, published settings, and what it refuses."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.losses.hsic import dependence
from debias.models.registry import build_classifier
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from tests.pipeline import same, short

N = 480
WHOLE = (f"rebias.batch_size={N}", "rebias.epochs=1")
# A network that looks at the same places, so that features depend on each other from the start.
SEEN = ("rebias.network=rebias_cnn_small",)
LEARNING = ("rebias.epochs=4", "rebias.batch_size=64", "rebias.learning_rate=0.003")


class Spy:
    """Keeps what a stage asks of the loop, and the first weights."""

    def fit(self, job, ctx):
        self.job = job
        self.first = {name: value.clone() for name, value in job.model.state_dict().items()}
        return fit_alone(job, ctx)


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, **also: run_tiny(*short("rebias"), *words, **{"task": task, **also})


def seen_by(network, task):
    """Features and logits as in training, on one batch of all images."""
    network.train()
    with torch.no_grad():
        features = network.features(task.train.images.float() / 255)
        return features, network.head(features)


def test_both_losses_by_hand(run, task):
    """With weights that stay, on one batch of all images."""
    spy = Spy()
    weights = ("rebias.independence=3.0", "rebias.dependence=2.0", "rebias.radius=1.5")
    outcome = run(*WHOLE, *weights, "rebias.learning_rate=0", together=spy)
    target = task.train.target
    (features, logits), (seen, biased) = (seen_by(spy.job.model[name], task) for name in ("debiased", "biased"))
    hsic = dependence(features.double(), seen.double(), 1.5)
    assert float(hsic) > 1e-4
    (row,) = outcome.stages["rebias"].report.history
    assert row["train/hsic"] == pytest.approx(float(hsic), rel=1e-3)
    assert row["loss"] == pytest.approx(float(cross_entropy(biased, target) - 2 * hsic), rel=1e-4)
    assert row["loss1"] == pytest.approx(float(cross_entropy(logits, target) + 3 * hsic), rel=1e-4)
    for name, said in (("train/accuracy", logits), ("train/biased_accuracy", biased)):
        assert row[name] == pytest.approx(100 * float((said.argmax(1) == target).double().mean()), abs=0.5)


def test_each_update_moves_its_own_network_the_second_beside_the_moved_one(run, task):
    """After one batch: what f was measured by is g's features after g has moved, and f's before f has."""
    spy = Spy()
    outcome = run(*WHOLE, *SEEN, "rebias.learning_rate=0.05", together=spy)
    named = {name: {id(each) for each in spy.job.model[name].parameters()} for name in ("biased", "debiased")}
    moved = [
        {id(each) for group in update.optimiser.param_groups for each in group["params"]} for update in spy.job.updates
    ]
    assert moved == [named["biased"], named["debiased"]]
    after = seen_by(spy.job.model["biased"], task)[0]
    spy.job.model.load_state_dict(spy.first)
    before, features = (seen_by(spy.job.model[name], task)[0] for name in ("biased", "debiased"))
    (row,) = outcome.stages["rebias"].report.history
    assert row["train/hsic"] == pytest.approx(float(dependence(features, after)), rel=1e-3)
    assert row["train/hsic"] != pytest.approx(float(dependence(features, before)), rel=0.05)


def test_features_depend_less_where_that_is_asked_for(run):
    words = (*SEEN, *LEARNING, "rebias.dependence=0")
    last = [
        run(*words, f"rebias.independence={weight}").stages["rebias"].report.history[-1]["train/hsic"]
        for weight in (0.0, 30.0)
    ]
    assert last[1] < 0.5 * last[0]


def test_the_biased_network_follows_where_that_is_asked_for(run):
    words = (*SEEN, *LEARNING, "rebias.radius=3.0", "rebias.independence=0")
    last = [
        run(*words, f"rebias.dependence={weight}").stages["rebias"].report.history[-1]["train/hsic"]
        for weight in (0.0, 30.0)
    ]
    assert last[1] > 1.1 * last[0]


def test_a_last_batch_of_three(run):
    """Of too few images there is no HSIC, and the batch is trained on all the same."""
    (row,) = run("rebias.batch_size=159", "rebias.epochs=1").stages["rebias"].report.history
    assert row["loss"] == row["loss"] and 0 < row["train/hsic"] < 0.25


def test_an_interruption_changes_nothing(run, tmp_path):
    words = ("rebias.epochs=3", "rebias.decay_every=2", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "rebias/loss" and epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*words, log=stop)
    said: list[str] = []
    resumed = run(*words, say=said.append)
    assert any("rebias: resuming after epoch 2 of 3" in line for line in said)
    whole = run(*words, store=tmp_path / "whole")
    same(resumed.artifacts, whole.artifacts)
    same(resumed.stages["rebias"].report.history, whole.stages["rebias"].report.history)


def test_the_model_is_f(run, task):
    outcome = run()
    artifact = outcome.artifacts["model"]
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert artifact.spec["backbone"] == "mlp3"
    assert outcome.summary["model/average/last"] == pytest.approx(100 * float(right.double().mean()))
    assert not any(about.needs_bias_labels for about in outcome.stages.values())


def test_biased_digits_by_default_as_published(configured):
    published = {
        "network": "rebias_cnn", "biased": "rebias_cnn_1x1", "independence": 1, "dependence": 1, "radius": 1,
        "epochs": 80, "batch_size": 256, "learning_rate": 1e-3, "weight_decay": 1e-4, "decay_every": 20, "decay": 0.1,
    }  # fmt: skip
    settings = configured("biased_mnist", "rebias")
    assert settings["rebias"].items() >= published.items() and settings["optimiser"] == "adam"
    small = configured("biased_mnist", "rebias", "quick")["rebias"]
    assert (small["network"], small["biased"]) == ("rebias_cnn_small", "rebias_cnn_1x1_small")
    assert configured("bffhq", "rebias")["rebias"]["biased"] == "rebias_cnn_small"
    assert configured("colored_mnist", "rebias")["rebias"]["network"] == "mlp5"


def test_biased_digits_with_their_two_test_sets(run_tiny):
    words = ("dataset=biased_digits", *short("rebias", 1), "rebias.network=rebias_cnn_small")
    summary = run_tiny(*words, task=None).summary
    for name in ("model", "biased"):
        assert f"{name}/unbiased/last" in summary and f"{name}@biased/average/last" in summary


def test_one_network_twice(tiny, configured):
    """Said before any work."""
    with pytest.raises(UserError, match=r"rebias\.network and rebias\.biased are both rebias_cnn_small.*larger"):
        configured("biased_digits", "rebias", "rebias.network=rebias_cnn_small", "rebias.biased=rebias_cnn_small")
    with pytest.raises(UserError, match=r"rebias\.biased"):
        tiny("rebias", "rebias.biased=mlp5")
