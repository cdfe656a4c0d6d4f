"""DeNetDM, stage 1: its loss at the first weights, its read-outs, and whether the branches have parted."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from debias.data.batches import Batches
from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.registry import build_classifier
from debias.stages import branches as module
from debias.training.job import Fitted
from tests.pipeline import short

# A learning rate of 0 keeps the first weights, which the artifact then holds: what is computed from them is known.
STILL = ("branches.learning_rate=0", "branches.weight_decay=0", "branches.epochs=1")


@pytest.fixture
def still(run_tiny, task):
    return run_tiny(*short("denetdm", 1), *STILL, "branches.batch_size=480", last="branches", task=task)


def everything(task, split):
    """The one batch of all images, in order."""
    return next(Batches(split, len(split), mean=task.mean, std=task.std, shuffle=False).epoch())


def rebuilt(artifact, selection="last"):
    model = build_branches(artifact.spec)
    model.load_state_dict(artifact.states[selection])
    return model.eval()


def test_the_loss_is_cross_entropy_of_the_summed_features(still, task):
    model, batch = rebuilt(still.artifacts["branches"]), everything(task, task.train)
    with torch.no_grad():
        logits = model.head(model.shallow(batch.images) + model.deep(batch.images))
    expected = float(cross_entropy(logits, batch.target))
    row = still.stages["branches"].report.history[0]
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_read_outs_are_those_of_the_stored_weights(still, task):
    model, batch = rebuilt(still.artifacts["branches"]), everything(task, task.test)
    with torch.no_grad():
        features = {"shallow": model.shallow(batch.images), "deep": model.deep(batch.images)}
        features["poe"] = features["shallow"] + features["deep"]
        right = {name: (model.head(f).argmax(1) == batch.target).float().mean() for name, f in features.items()}
    for name, share in right.items():
        assert still.summary[f"{name}/average/last"] == pytest.approx(100 * float(share), abs=1e-4)


def test_the_shallow_branch_alone_is_a_model(still, task):
    artifact, batch = still.artifacts["model"], everything(task, task.test)
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    with torch.no_grad():
        assert torch.equal(model(batch.images), rebuilt(still.artifacts["branches"]).read_outs(batch.images)["shallow"])


def test_training_passes_leave_out_a_batch_that_is_not_full(run_tiny, task, monkeypatch):
    """480 images in batches of 100: four steps a pass, as normalisation in small last batches is noise."""
    sizes: list[int] = []
    epoch = Batches.epoch

    def watching(self, generator=None):
        for batch in epoch(self, generator):
            if self.shuffle:
                sizes.append(len(batch.target))
            yield batch

    monkeypatch.setattr(Batches, "epoch", watching)
    run_tiny(*short("denetdm", 1), "branches.batch_size=100", last="branches", task=task)
    assert len(task.train) == 480
    assert sizes == [100] * 4


@pytest.mark.parametrize("network", ["shallow", "deep"])
def test_networks_are_chosen_by_name(run_tiny, task, network):
    other = {"shallow": "mlp5", "deep": "mlp3"}[network]
    artifact = run_tiny(*short("denetdm", 1), f"branches.{network}={other}", last="branches", task=task)
    spec = artifact.artifacts["branches"].spec
    assert (spec["shallow"], spec["deep"]) == (("mlp5", "mlp5") if network == "shallow" else ("mlp3", "mlp3"))
    assert spec["shape"] == [3, 28, 28] and spec["classes"] == 10


def test_networks_of_other_widths_are_refused(run_tiny, task):
    with pytest.raises(UserError, match="gives 256 features and the deep one 100; they must give as many"):
        run_tiny(*short("denetdm", 1), "branches.shallow=cnn", last="branches", task=task)


class Reading:
    """Branches whose read-outs are right for the first so many images."""

    def __init__(self, shallow, deep, target):
        self.right = {"shallow": shallow, "deep": deep}
        self.target = target

    def eval(self):
        return self

    def read_outs(self, images):
        n = len(images)
        answers = {
            name: torch.where(torch.tensor(right)[:n], self.target[:n], (self.target[:n] + 1) % 10)
            for name, right in self.right.items()
        }
        return {name: torch.nn.functional.one_hot(answer, 10).float() for name, answer in answers.items()}

    def experts(self, images):
        """Features that are the logits: the classifier leaves them as they are."""
        return tuple(self.read_outs(images).values())

    @staticmethod
    def head(features):
        return features


@pytest.mark.parametrize(
    ("shallow", "deep", "corrected"),
    [
        ([True, True, False, False], [True, False, False, False], 100 / 3),
        ([True, True, True, True], [False, False, True, True], 100.0),
        ([False] * 4, [True, True, True, False], 0.0),
        ([True] * 4, [True] * 4, None),
    ],
)
def test_separation(task, shallow, deep, corrected):
    """Of what the deep branch gets wrong, the share the shallow one gets right; and its lead on conflicting ones."""
    four = task.train.subset(torch.arange(4))
    history = [
        {"shallow/conflicting": 1.0, "deep/conflicting": 1.0},
        {"shallow/conflicting": 70.0, "deep/conflicting": 12.5},
    ]
    surroundings: Any = SimpleNamespace(train=four, task=task)
    reading: Any = Reading(shallow, deep, four.target)
    figures = module.separation(reading, Fitted(history, {}), surroundings)
    figures.pop("separation/independent/last", None)
    expected: dict[str, Any] = {"separation/conflicting/last": 57.5, "separation/deep/train": 25.0 * sum(deep)}
    if corrected is not None:
        expected["separation/corrected/last"] = pytest.approx(corrected)
    assert figures == expected


def test_separation_without_bias_labels(task):
    four = task.train.subset(torch.arange(4))
    surroundings: Any = SimpleNamespace(train=four, task=task)
    reading: Any = Reading([True] * 4, [False] * 4, four.target)
    figures = module.separation(reading, Fitted([{"shallow/average": 1.0}], {}), surroundings)
    figures.pop("separation/independent/last", None)
    assert figures == {"separation/corrected/last": 100.0, "separation/deep/train": 0.0}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        # Of 480 images the deep branch misleads about the first 48. Nowhere wrong, on as many of them as of the rest,
        # on half of them alone, and on all of them.
        (lambda place: place < 0, 100.0),
        (lambda place: place % 2 == 0, 100.0),
        (lambda place: (place < 48) & (place % 2 == 0), 100 * 0.5 / 0.95),
        (lambda place: place < 48, 0.0),
    ],
)
def test_independent_errors(task, wrong, expected):
    """Read of the images that the deep branch misleads about, beside read of all; its own classifier plays no part."""
    place = torch.arange(480)
    reading: Any = Reading((~wrong(place)).tolist(), (place >= 48).tolist(), task.train.target)
    surroundings: Any = SimpleNamespace(train=task.train, task=task)
    plain = module.independent(reading, surroundings)
    assert plain == pytest.approx(expected, abs=1e-4)

    def shifted(images):
        shallow, deep = Reading.experts(reading, images)
        return shallow, 3 * deep.roll(1, dims=1) - 5  # other features that say the same

    reading.experts = shifted
    assert module.independent(reading, surroundings) == pytest.approx(plain, abs=1e-4)


def test_nothing_misleads_and_nothing_is_read(task):
    surroundings: Any = SimpleNamespace(train=task.train, task=task)
    target, every, none = task.train.target, [True] * 480, [False] * 480
    assert module.independent(Reading(every, every, target), surroundings) is None  # type: ignore[arg-type]
    misled: Any = Reading(none, [place >= 48 for place in range(480)], target)
    assert module.independent(misled, surroundings) is None


def test_branches_that_err_together_start_anew(run_tiny, task):
    """With other first weights, as often as is allowed; said, and noted in the report."""
    words = [*short("denetdm", 2), "branches.restart_after=1", "branches.restart_below=0"]
    said: list[str] = []
    again = run_tiny(
        *words, "branches.restarts=2", "branches.restart_dependent=100", last="branches", task=task, say=said.append
    )
    assert again.stages["branches"].report.starts == 1 + len(said)
    assert said[:1] == ["branches: the branches have not parted; start 2 of 3"]
    assert "separation/independent/last" in again.summary
    at_ease = run_tiny(*words, "branches.restarts=2", last="branches", task=task)
    assert at_ease.stages["branches"].report.starts == 1
    first, second = (o.artifacts["branches"].states["last"] for o in (at_ease, again))
    assert not all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("words", [("branches.weight_decay=1",), ()])
def test_a_deep_branch_that_learns_nothing_is_said(run_tiny, words):
    """Its mistakes look like suspects, all of them: a decay that leaves no weights shows it."""
    said: list[str] = []
    outcome = run_tiny(*short("[branches]", 8), *words, say=said.append)
    told = [line for line in said if "the deep branch has learnt nothing" in line]
    learnt = outcome.stages["branches"].report.summary["separation/deep/train"]
    assert (len(told) == 1) == bool(words) == (learnt < 15), (learnt, said)
