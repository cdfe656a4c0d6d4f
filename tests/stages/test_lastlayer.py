"""AFR and DFR: the last layer alone is trained, on held-out images alone, and the losses are those of the papers."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.losses.last_layer import balanced_subset
from debias.models.registry import build_classifier
from debias.randomness import stream
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from tests.pipeline import same, short


class Spy:
    """Keeps the model of the last stage."""

    def fit(self, job, ctx):
        self.job = job
        return fit_alone(job, ctx)


def rebuilt(artifact, selection="last"):
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states[selection])
    return model.eval()


@pytest.mark.parametrize("method", ["afr", "dfr"])
@pytest.mark.parametrize("network", ["mlp3", "cnn"])
def test_the_backbone_stays_and_the_stored_model_is_what_was_measured(run_tiny, task, tmp_path, method, network):
    words = [*short(method), f"pretrain.network={network}"]
    before = run_tiny(*words, last="pretrain", task=task).artifacts["model"]
    outcome = run_tiny(*words, task=task)
    after = outcome.artifacts["model"]
    old, new = before.states["last"], after.states["last"]
    moved = {name for name in new if not torch.equal(new[name], old[name])}
    assert moved == {"head.weight", "head.bias"}
    assert set(after.states) == {"last", "mean", "valid", "oracle"}
    for selection in after.states:
        right = map_images(rebuilt(after, selection), task, task.test).argmax(1) == task.test.target
        expected = 100 * float(right.double().mean())
        assert outcome.summary[f"retrained/average/{selection}"] == pytest.approx(expected), selection
    same(run_tiny(*words, task=task, store=tmp_path / "again").artifacts, outcome.artifacts)


def test_afr_weighs_held_out_images_by_doubt(run_tiny, task):
    words = (*short("afr", 1), "afr.learning_rate=0", "afr.gamma=4.0", "pretrain.epochs=1")
    outcome = run_tiny(*words, task=task)
    target = task.valid.target
    logits = map_images(rebuilt(outcome.artifacts["model"]), task, task.valid).double()
    each = cross_entropy(logits, target, reduction="none")
    weights = torch.exp(-4 * torch.exp(-each)) / torch.bincount(target, minlength=10)[target]
    expected = float((weights * each).sum() / weights.sum())
    assert outcome.stages["afr"].report.history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    plain = (
        run_tiny(*words[:-2], "afr.gamma=0.0", "pretrain.epochs=1", task=task).stages["afr"].report.history[0]["loss"]
    )
    assert plain < expected


def test_afr_is_pulled_back(run_tiny, task):
    words = [*short("afr"), "afr.learning_rate=0.1"]
    heads = []
    for l2 in (0.0, 10.0):
        spy = Spy()
        run_tiny(*words, f"afr.l2={l2}", "afr.optimiser=adam", task=task, together=spy)
        heads.append(spy.job.model.head.weight.detach())
    old = run_tiny(*words, last="pretrain", task=task).artifacts["model"].states["last"]["head.weight"]
    free, pulled = ((head - old).norm() for head in heads)
    assert pulled < free / 5


def test_dfr_minimises_the_penalised_regression(run_tiny, task):
    """Beside liblinear: the same objective, of a single draw, to a thousandth."""
    from sklearn.linear_model import LogisticRegression

    spy = Spy()
    words = ["dfr.refits=1", "dfr.round_steps=1500", "dfr.c=0.5", "dfr.learning_rate=0.003"]
    outcome = run_tiny(*short("dfr", 2), *words, task=replace(task, valid=task.train, key="larger"), together=spy)
    model = spy.job.model
    drawn = outcome.stages["dfr"].report.history[-1]["loss"]
    chosen = balanced_subset(task.train.target * 10 + task.train.bias, stream(1, "dfr draws"))
    features = model.standardised(map_images(model.network.features, task, task.train))[chosen]
    target = task.train.target[chosen]
    fitted = LogisticRegression(l1_ratio=1.0, C=0.5, solver="saga", max_iter=20_000, tol=1e-6)
    fitted.fit(features.double().numpy(), target.numpy())
    z = torch.tensor(fitted.decision_function(features.double().numpy()))
    objective = float(cross_entropy(z, target)) + abs(fitted.coef_).sum() / (0.5 * len(target))
    assert drawn == pytest.approx(objective, rel=0.01)
    ours = model.standardised(map_images(model.network.features, task, task.test))
    ours = (ours @ model.weight[0].T + model.bias[0]).argmax(1)
    assert float((ours == map_images(model, task, task.test).argmax(1)).float().mean()) == 1.0


def test_dfr_says_that_it_reads_labels_and_afr_reads_none(run_tiny, task):
    assert run_tiny(*short("dfr", 1), task=task).stages["dfr"].needs_bias_labels
    splits = {name: getattr(task, name).without_bias() for name in ("train", "valid", "test")}
    bare = replace(task, **splits, bias_names=None, key="bare")
    assert not run_tiny(*short("afr", 1), task=bare).stages["afr"].needs_bias_labels
    with pytest.raises(UserError, match="dfr reads bias labels, and .* has none; use method=afr"):
        run_tiny(*short("dfr", 1), task=bare)


@pytest.mark.parametrize("method", ["afr", "dfr"])
def test_without_held_out_images(configured, run_tiny, task, method):
    with pytest.raises(UserError, match=f"{method} trains on held-out images: set valid_fraction"):
        configured(method, "valid_fraction=0.0")
    with pytest.raises(UserError, match=f"{method} trains on held-out images: set valid_fraction"):
        run_tiny(*short(method, 1), task=replace(task, valid=None, key="none held out"))
    assert configured(method)["valid_fraction"] == 0.2


def test_afr_wants_held_out_images_with_the_bias(configured):
    assert configured("afr", "biased_digits")["validation"] == "biased"
    with pytest.raises(UserError, match="afr needs held-out images that are as biased as the training images"):
        configured("afr", "biased_digits", "validation=unbiased")
