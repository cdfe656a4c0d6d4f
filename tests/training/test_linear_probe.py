"""Probes: what can be read off features that are made to tell target, bias, both or neither."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from debias.data.split import Split, Task
from debias.errors import UserError
from debias.training.linear_probe import chance, probe, readable

N, CLASSES, BIASES = 400, 4, 5


def flat(classes: int, aligned: float, seed: int) -> Split:
    """Images of 1x2 pixels that spell target and bias; a share `aligned` of them has the bias of the same number."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(N) % classes
    bias = torch.randint(0, BIASES, (N,), generator=generator)
    bias = torch.where(torch.rand(N, generator=generator) < aligned, target, bias)
    images = torch.stack([target, bias], dim=1).to(torch.uint8)[:, None, None, :]
    return Split(images, target, bias, torch.arange(N))


class Telling:
    """Two networks' features: one-hot of what each tells, and noise beside it."""

    def __init__(self, **tells: tuple[str, ...]) -> None:
        self.tells = tells

    def features(self, images: Tensor) -> dict[str, Tensor]:
        target, bias = (255 * images).round().long().flatten(1).unbind(1)
        columns = {
            "target": torch.nn.functional.one_hot(target, CLASSES).float(),
            "bias": torch.nn.functional.one_hot(bias, BIASES).float(),
        }
        noise = torch.randn(len(images), 3, generator=torch.Generator().manual_seed(len(images)))
        return {
            name: torch.cat([noise, *(3 * columns[what] for what in whats)], dim=1)
            for name, whats in self.tells.items()
        }


def task_of(train: float = 0.97, test: float = 0.0) -> Task:
    names = tuple(str(label) for label in range(BIASES))
    return Task("flat", flat(CLASSES, train, 0), flat(CLASSES, test, 1), None, names[:CLASSES], names, "key")


@pytest.mark.parametrize("probe_on", ["test", "train"])
@pytest.mark.parametrize("aligned", [0.0, 0.9])
def test_what_features_tell_and_nothing_else(probe_on, aligned):
    """However biased the images are: target features say nothing of the bias once every group counts the same."""
    bundle = Telling(both=("target", "bias"), target=("target",), bias=("bias",), neither=())
    found = probe(bundle, task_of(test=aligned), probe_on, seed=1)  # type: ignore[arg-type]
    for name, values in found.items():
        for what, classes in (("target", CLASSES), ("bias", BIASES)):
            if name in (what, "both"):
                assert values[what] == pytest.approx(100), (name, what)
            else:
                # Not 95, as guessing by the other label would give on biased images.
                assert values[what] == pytest.approx(100 / classes, abs=17), (name, what)


def test_without_bias_labels_the_target_alone():
    task = task_of()
    for blind in (replace(task, test=task.test.without_bias()), replace(task, train=task.train.without_bias())):
        found = probe(Telling(net=("target",)), blind, "train", seed=1)  # type: ignore[arg-type]
        assert found == {"net": {"target": pytest.approx(100)}}


def test_halves_are_drawn_by_the_seed_and_hold_every_group():
    """Two further pixels of each image are its number."""
    task, seen = task_of(), []
    test = task.test
    number = torch.stack([torch.arange(N) % 256, torch.arange(N) // 256], dim=1).to(torch.uint8)
    task = replace(task, test=replace(test, images=torch.cat([test.images, number[:, None, None]], dim=3)))

    class Noting(Telling):
        def features(self, images: Tensor) -> dict[str, Tensor]:
            numbers = (255 * images).round().long().flatten(1)
            seen.append((numbers[:, 2] + 256 * numbers[:, 3]).tolist())
            return super().features(images[..., :2])

    for seed in (1, 1, 2):
        probe(Noting(net=("bias",)), task, "test", seed)  # type: ignore[arg-type]
    assert len(seen) == 6, "a batch for each half"
    assert seen[0] == seen[2] != seen[4]
    assert sorted(seen[0] + seen[1]) == list(range(N))
    cells = [torch.bincount(test.target[half] * BIASES + test.bias[half], minlength=20) for half in seen[:2]]
    assert int((cells[0] - cells[1]).abs().max()) <= 1


def test_weights_decide_what_is_fitted_and_shares_what_is_measured():
    features = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    unseen, expected = torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([1, 1, 0])
    ones = torch.ones(4)
    assert readable(features, labels, ones, unseen, expected, torch.tensor([1.0, 1.0, 2.0])) == 25
    # With the third image weighing most, the features 0 mean label 1.
    heavy = torch.tensor([1.0, 1.0, 50.0, 1.0])
    assert readable(features, labels, heavy, unseen, expected, torch.tensor([1.0, 1.0, 2.0])) == 50


def test_nothing_to_fit():
    one = torch.zeros(3, dtype=torch.long)
    with pytest.raises(UserError, match="of one class"):
        readable(torch.rand(3, 2), one, torch.ones(3), torch.rand(3, 2), one, torch.ones(3))


def test_guessing():
    assert chance(task_of()) == {"target": 25.0, "bias": 20.0}
    assert chance(replace(task_of(), bias_names=None)) == {"target": 25.0}
