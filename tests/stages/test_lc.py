"""Logit correction: the loss at the first weights by hand, learning rates, and what is kept for a resume."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.models.registry import build_classifier
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from tests.pipeline import same, short

N = 480


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, **also: run_tiny(*short("lc"), *words, **{"task": task, **also})


class Spy:
    """Keeps what a stage asks of the loop."""

    def fit(self, job, ctx):
        self.job = job
        return fit_alone(job, ctx)


def test_the_loss_without_mixing(run, task):
    spy = Spy()
    still = ("lc.learning_rate=0", f"lc.batch_size={N}", "lc.epochs=1", "lc.momentum=0.0", "lc.mixup=False", "lc.q=0.5")
    outcome = run(*still, together=spy)
    spec, target = outcome.artifacts["model"].spec, task.train.target
    logits = {}
    for name in ("biased", "debiased"):
        network = build_classifier(spec)
        network.load_state_dict(spy.job.model[name].state_dict())
        logits[name] = map_images(network, task, task.train).clone().double()
    assert not torch.allclose(logits["biased"], logits["debiased"])
    p = torch.softmax(logits["biased"], 1)
    prior = torch.stack([p[target == y].mean(0) for y in range(10)])
    corrected = torch.stack(
        [z + (prior[:, a] + 1e-4).log() for z, a in zip(logits["debiased"], p.argmax(1), strict=True)]
    )
    right = p.gather(1, target[:, None]).squeeze(1)
    expected = ((1 - right**0.5) / 0.5).mean() + cross_entropy(corrected, target)
    assert outcome.stages["lc"].report.history[0]["loss"] == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(spy.job.tensors["prior"].double(), prior, rtol=1e-4, atol=1e-6)


def test_the_biased_network_learns_at_a_tenth_of_the_rate(run):
    spy = Spy()
    run("lc.learning_rate=0.02", together=spy)
    groups = spy.job.updates[0].optimiser.param_groups
    assert [group["lr"] for group in groups] == [0.02, pytest.approx(0.002)]
    named = {name: {id(each) for each in spy.job.model[name].parameters()} for name in ("debiased", "biased")}
    assert [{id(each) for each in group["params"]} for group in groups] == [named["debiased"], named["biased"]]


def test_mixing_changes_the_debiased_network_alone(run):
    jobs = []
    for words in (("lc.mixup=True", "lc.ramp_epochs=1"), ("lc.mixup=False",)):
        spy = Spy()
        run(*words, together=spy)
        jobs.append(spy.job.model)
    one, other = jobs
    same(dict(one["biased"].state_dict()), dict(other["biased"].state_dict()))
    assert not torch.allclose(one["debiased"].head.weight, other["debiased"].head.weight)


def test_prior_and_ramp_survive_an_interruption(run, tmp_path):
    words = ("lc.epochs=3", "lc.ramp_epochs=3", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "lc/loss" and epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*words, log=stop)
    said: list[str] = []
    resumed = run(*words, say=said.append)
    assert any("lc: resuming after epoch 2 of 3" in line for line in said)
    whole = run(*words, store=tmp_path / "whole")
    same(resumed.artifacts, whole.artifacts)
    same(resumed.stages["lc"].report.history, whole.stages["lc"].report.history)


def test_the_model_is_the_debiased_network(run, task):
    outcome = run()
    artifact = outcome.artifacts["model"]
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert outcome.summary["model/average/last"] == pytest.approx(100 * float(right.double().mean()))
