"""DisEnt: the loss at the first weights, when features are exchanged, what moves what, and its networks."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from tests.pipeline import same, short

N = 480


class Spy:
    """Keeps what a stage asks of the loop, and the first weights."""

    def fit(self, job, ctx):
        self.job = job
        self.first = {name: value.clone() for name, value in job.model.state_dict().items()}
        return fit_alone(job, ctx)


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, **also: run_tiny(*short("dfa"), *words, **{"task": task, **also})


def test_the_loss_before_features_are_exchanged(run, task):
    spy = Spy()
    still = ("dfa.learning_rate=0", f"dfa.batch_size={N}", "dfa.epochs=1", "dfa.swap_after=1", "dfa.bias_weight=3.0")
    outcome = run(*still, together=spy)
    target, model = task.train.target, spy.job.model
    features = map_images(model["target"].features, task, task.train).clone()
    logits, biased = (head(features).detach().double() for head in (model["target"].head, model["biased"]))
    each = [cross_entropy(z, target, reduction="none") for z in (logits, biased)]
    share = []
    for values in each:
        largest = torch.stack([values[target == label].max() for label in range(10)])
        share.append(values / largest[target])
    weight = share[1] / (share[1] + share[0])
    p = torch.softmax(biased, 1).gather(1, target[:, None]).squeeze(1)
    expected = (weight * each[0]).mean() + 3 * (0.7 * p**0.7 * each[1]).mean()
    assert outcome.stages["dfa"].report.history[0]["loss"] == pytest.approx(float(expected), rel=1e-4)
    assert {name: tuple(tensor.shape) for name, tensor in spy.job.tensors.items()} == {
        "target": (N,), "biased": (N,), "steps": (),
    }  # fmt: skip


def test_features_are_exchanged_after_so_many_epochs(run):
    """Loss and weights are those without exchange up to then, and others from there on."""
    words = ("dfa.epochs=3", "dfa.decay_every=0")
    histories = []
    for after, weight in ((2, 1.0), (2, 0.0), (0, 1.0)):
        outcome = run(*words, f"dfa.swap_after={after}", f"dfa.swap_weight={weight}")
        histories.append([row["loss"] for row in outcome.stages["dfa"].report.history])
    late, never, early = histories
    assert late[:2] == never[:2] and late[2] > never[2] and early[0] > never[0]


def test_without_the_bias_terms_the_bias_encoder_rests(run):
    spy = Spy()
    run("dfa.bias_weight=0.0", "dfa.swap_bias_weight=0.0", "dfa.swap_after=0", together=spy)
    now = spy.job.model.state_dict()
    moved = {name for name, value in now.items() if not torch.equal(value, spy.first[name])}
    assert moved == {name for name in now if name.startswith(("target.backbone.target", "target.head"))}


def test_the_learning_rate_is_halved(run):
    spy = Spy()
    run("dfa.decay_every=2", together=spy)
    assert [spy.job.schedule(epoch) for epoch in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_the_model_answers_for_the_target(run, task, tmp_path):
    outcome = run("dfa.epochs=3", "dfa.swap_after=1")
    artifact = outcome.artifacts["model"]
    assert artifact.spec["backbone"] == "dual_mlp3"
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert outcome.summary["model/average/last"] == pytest.approx(100 * float(right.double().mean()))
    again = run("dfa.epochs=3", "dfa.swap_after=1", store=tmp_path / "again")
    same(again.artifacts, outcome.artifacts)


def test_it_trains_residual_networks(run):
    assert run("dfa.network=resnet20", "dfa.epochs=1").artifacts["model"].spec["backbone"] == "dual_resnet20"


def test_a_network_that_has_no_pair(run):
    with pytest.raises(UserError, match=r"dfa\.network=cnn: two encoders are made of mlp3, mlp4, mlp5, .*resnet18"):
        run("dfa.network=cnn")
