"""DeNetDM, stage 2: its loss at the first weights, what stays as it is, and who may teach."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from debias.data import augment
from debias.data.batches import Batches
from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.registry import build_classifier
from tests.pipeline import same, short

STILL = ("distill.learning_rate=0", "distill.weight_decay=0", "distill.epochs=1", "distill.batch_size=480")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in which the branches are trained once."""
    return tmp_path_factory.mktemp("distill")


@pytest.fixture
def run(run_tiny, task, store):
    return lambda *words, **also: run_tiny(
        *short("denetdm"), "valid_fraction=0.2", *words, **{"task": task, "store": store, **also}
    )


def networks(outcome, teacher="mean"):
    """The teacher's branches and the trained network, rebuilt from what the run left."""
    branches = build_branches(outcome.artifacts["branches"].spec)
    branches.load_state_dict(outcome.artifacts["branches"].states[teacher])
    model = build_classifier(outcome.artifacts["model"].spec)
    model.load_state_dict(outcome.artifacts["model"].states["last"])
    return branches.eval(), model.eval()


def expected_loss(outcome, task, poe_weight, dist_weight, temperature, teacher="mean"):
    """Both parts of the loss over all training images, the distillation as KL divergence plus the teacher's entropy."""
    branches, model = networks(outcome, teacher)
    batch = next(Batches(task.train, len(task.train), mean=task.mean, std=task.std, shuffle=False).epoch())
    with torch.no_grad():
        features = model.features(batch.images)
        beside = cross_entropy(model.head(features + branches.deep(batch.images)), batch.target)
        taught = softmax(branches.head(branches.shallow(batch.images)) / temperature, 1)
        student = log_softmax(model.head(features) / temperature, 1)
        entropy = -(taught * taught.log()).sum(1).mean()
        dist = temperature**2 * (kl_div(student, taught, reduction="batchmean") + entropy)
    return float(poe_weight * beside + dist_weight * dist)


@pytest.mark.parametrize(
    ("poe", "dist", "temperature"), [(1.0, 1.0, 2.0), (0.5, 0.0, 2.0), (0.0, 3.0, 4.0), (1.0, 1.0, 1.0)]
)
def test_the_loss(run, task, poe, dist, temperature):
    words = (f"distill.poe_weight={poe}", f"distill.dist_weight={dist}", f"distill.temperature={temperature}")
    outcome = run(*STILL, *words)
    row = outcome.stages["distill"].report.history[0]
    assert row["loss"] == pytest.approx(expected_loss(outcome, task, poe, dist, temperature), rel=1e-5)


def test_the_head_starts_as_that_of_the_branches(run):
    branches, model = networks(run(*STILL))
    same(dict(model.head.state_dict()), dict(branches.head.state_dict()))
    assert not torch.equal(model.backbone.layers[0].weight, branches.shallow.layers[0].weight)


def test_the_branches_stay_as_they_were(run):
    before = run(last="branches").artifacts["branches"]
    same(run("distill.learning_rate=0.01").artifacts["branches"], before)


def test_the_reported_read_out_is_the_network_alone(run, task):
    outcome = run()
    _, model = networks(outcome)
    batch = next(Batches(task.test, len(task.test), mean=task.mean, std=task.std, shuffle=False).epoch())
    with torch.no_grad():
        right = (model(batch.images).argmax(1) == batch.target).float().mean()
    assert outcome.summary["target/average/last"] == pytest.approx(100 * float(right), abs=1e-4)


@pytest.mark.parametrize("teacher", ["mean", "last", "valid", "oracle"])
def test_the_teacher_is_the_one_asked_for(run, task, teacher):
    outcome = run("branches.epochs=5", *STILL, f"distill.teacher={teacher}")
    row = outcome.stages["distill"].report.history[0]
    assert row["loss"] == pytest.approx(expected_loss(outcome, task, 1.0, 1.0, 2.0, teacher), rel=1e-5)


def test_what_an_oracle_taught_is_named_after_it(run):
    honest, taught = run(), run("distill.teacher=oracle")
    names = set(taught.stages["distill"].report.summary)
    for name in honest.stages["distill"].report.summary:
        assert (name if name.endswith("/oracle") else f"{name}_of_oracle_teacher") in names
        assert name.endswith("/oracle") or name not in names
    assert not any("of_oracle_teacher" in name for name in honest.summary)
    assert "shallow/unbiased/last" in taught.summary


def test_a_valid_teacher_needs_held_out_images(run):
    with pytest.raises(UserError, match="set valid_fraction"):
        run("valid_fraction=0.0", "distill.teacher=valid")


def test_remembered_and_recomputed_answers_of_the_branches_agree(run, task, tmp_path, monkeypatch):
    """With augmentation the frozen branches compute each batch again; with one that does nothing, the same."""
    remembered = run("distill.poe_weight=0.7")
    monkeypatch.setitem(augment.AUGMENTATIONS, "nothing", lambda images, generator: images)
    branches = run(last="branches").artifacts
    same(branches["branches"], remembered.artifacts["branches"])
    asked = run("distill.poe_weight=0.7", task=replace(task, augment="nothing"), store=tmp_path / "augmented")
    for name, weights in remembered.artifacts["model"].states["last"].items():
        torch.testing.assert_close(asked.artifacts["model"].states["last"][name], weights, rtol=1e-3, atol=1e-4)


def test_a_network_of_another_width_is_refused(run):
    with pytest.raises(UserError, match=r"distill\.network=cnn gives \d+ features, but the branches give 100"):
        run("distill.network=cnn")
