"""Learning from Failure: the loss and the running averages by hand, and what is kept for a resume."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.data.batches import Batches
from debias.models.registry import build_classifier
from debias.training.evaluation import map_images
from tests.pipeline import same, short

N = 480


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, **also: run_tiny(*short("lff"), *words, **{"task": task, **also})


def interrupted(run, tmp_path, *words, after):
    """The checkpoint of a run that was stopped when the epoch behind `after` was logged."""

    def stop(name, value, epoch):
        if name == "lff/loss" and epoch == after + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*words, "checkpoint_seconds=0.0", log=stop)
    (path,) = tmp_path.glob("stages/lff-*/checkpoint.pt")
    return torch.load(path, weights_only=True)


def networks(checkpoint, spec):
    found = {}
    for name in ("biased", "debiased"):
        found[name] = build_classifier(spec).eval()
        own = {key.removeprefix(f"{name}."): v for key, v in checkpoint["model"].items() if key.startswith(f"{name}.")}
        found[name].load_state_dict(own)
    return found


def test_loss_and_averages_at_the_first_weights(run, task, tmp_path):
    still = ("lff.learning_rate=0", "lff.weight_decay=0", f"lff.batch_size={N}", "lff.epochs=2", "lff.q=0.5")
    checkpoint = interrupted(run, tmp_path, *still, after=1)
    outcome = run(*still)
    spec = outcome.artifacts["model"].spec
    both = networks(checkpoint, spec)
    assert not torch.equal(both["biased"].head.weight, both["debiased"].head.weight)
    batch = next(Batches(task.train, N, mean=task.mean, std=task.std, shuffle=False).epoch())
    with torch.no_grad():
        logits = {name: network(batch.images).double() for name, network in both.items()}
    each = {name: cross_entropy(z, batch.target, reduction="none") for name, z in logits.items()}
    # The first values are taken whole, and repeated at the same weights they stay.
    assert set(checkpoint["tensors"]) == {"biased", "debiased"}
    for name, average in checkpoint["tensors"].items():
        assert torch.allclose(average.double(), each[name], rtol=1e-4, atol=1e-5)
    share = {}
    for name, values in each.items():
        largest = torch.stack([values[batch.target == label].max() for label in range(10)])
        share[name] = values / largest[batch.target]
    weight = share["biased"] / (share["biased"] + share["debiased"])
    p = torch.softmax(logits["biased"], 1).gather(1, batch.target[:, None]).squeeze(1)
    expected = ((1 - p**0.5) / 0.5).mean() + (weight * each["debiased"]).mean()
    for row in outcome.stages["lff"].report.history:
        assert row["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_averages_move_with_the_networks(run, task, tmp_path):
    """After two epochs of one batch: alpha * the first cross-entropy + (1 - alpha) * the second."""
    words = (f"lff.batch_size={N}", "lff.epochs=3", "lff.alpha=0.6", "lff.learning_rate=0.01")
    seen = []

    def note(name, value, epoch):
        if name == "lff/loss":
            seen.append(epoch)

    checkpoint = interrupted(run, tmp_path, *words, after=1)
    first = checkpoint["tensors"]
    both = networks(checkpoint, {"backbone": "mlp3", "shape": [3, 28, 28], "classes": 10})
    now = {
        name: cross_entropy(map_images(network, task, task.train), task.train.target, reduction="none")
        for name, network in both.items()
    }
    second = interrupted(run, tmp_path, *words, after=2)["tensors"]
    for name in second:
        assert not torch.allclose(now[name], first[name], rtol=1e-2)
        assert torch.allclose(second[name], 0.6 * first[name] + 0.4 * now[name], rtol=1e-4, atol=1e-5)
    run(*words, log=note)
    assert seen == [1, 2, 3]


def test_averages_survive_an_interruption(run, tmp_path):
    words = ("lff.epochs=3", "checkpoint_seconds=0.0")
    checkpoint = interrupted(run, tmp_path, *words, after=2)
    assert all(bool((average >= 0).all()) for average in checkpoint["tensors"].values())
    said: list[str] = []
    resumed = run(*words, say=said.append)
    assert any("lff: resuming after epoch 2 of 3" in line for line in said)
    whole = run(*words, store=tmp_path / "whole")
    same(resumed.artifacts, whole.artifacts)
    same(resumed.stages["lff"].report.history, whole.stages["lff"].report.history)


def test_the_model_is_the_debiased_network(run, task):
    outcome = run("valid_fraction=0.2")
    artifact = outcome.artifacts["model"]
    assert set(artifact.states) == {"last", "mean", "valid", "oracle"}
    for selection, state in artifact.states.items():
        model = build_classifier(artifact.spec)
        model.load_state_dict(state)
        right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
        expected = 100 * float(right.double().mean())
        assert outcome.summary[f"model/average/{selection}"] == pytest.approx(expected), selection
    assert artifact.read_out == "model" and artifact.initial == "lff"
