"""The methods that a study trains, and the choice among them without bias labels."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from debias.data.split import Split, Task
from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.stages.recipes import stages_of
from debias.training.artifacts import BiasLabels, TrainedModel, take
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.store import Store
from debias.training.walk import Outcome, run_stages

PLAIN = "erm"
# In the order in which they are preferred where they do equally well.
WHERE_NAMED = ("property_moved", "gce_balanced", "property_balanced", PLAIN)
ELSEWHERE = (PLAIN, "gce_balanced")
# By how many standard errors of the difference a method has to be better than one that is preferred to it.
ENOUGH = 1.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A method that was trained.

    held, test : float [N, classes], what it says of held-out training images and of test images, as probabilities
    outcome : artifacts and figures of its stages; seconds : that it took, those of shared stages only once
    """

    method: str
    outcome: Outcome
    held: Tensor
    test: Tensor
    seconds: float

    @property
    def model(self) -> TrainedModel:
        """The trained model."""
        return take(self.outcome.artifacts, "model", TrainedModel)


def train(
    methods: Sequence[str],
    task: Task,
    settings_of: Callable[[str], Mapping[str, Any]],
    device: torch.device,
    store: Store,
    say: Callable[[str], None],
    progress: bool,
) -> dict[str, Candidate]:
    """Every method trained on a task with held-out images; stages are reused where the store has them.

    A method that these data give nothing to work on, as a miner that finds nothing, is left out, with a line; the plain
    one never is.

    settings_of : all settings of a run of a method
    """
    assert task.valid is not None
    found = {}
    for method in methods:
        started = time.monotonic()
        say(f"training {method}")
        settings = settings_of(method)
        stages = stages_of(method, dataset=settings["dataset"])
        try:
            outcome = run_stages(stages, task, settings, device, store, say=say, progress=progress)
        except UserError as error:
            if method == PLAIN:
                raise
            say(f"{method} is left out: {error}")
            continue
        model = take(outcome.artifacts, "model", TrainedModel)
        held, test = (answers(model, task, split, device) for split in (task.valid, task.test))
        found[method] = Candidate(method, outcome, held, test, time.monotonic() - started)
    return found


def answers(model: TrainedModel, task: Task, split: Split, device: torch.device) -> Tensor:
    """Probabilities float32 [N, classes] on the CPU of a split's images, by the weights of the last epoch."""
    network = build_classifier(model.spec)
    network.load_state_dict(model.states["last"])
    network.to(device).eval()
    on_device = split.without_bias().to(device)
    return map_images(lambda images: torch.softmax(network(images), 1), task, on_device).cpu()


def recommended(verdict: str, methods: Sequence[str], right: Mapping[str, Tensor], cell: Tensor) -> str:
    """The method to use by the kind of verdict: `chosen_of`, and the plain one where no shortcut was seen.

    There pseudo labels say which images are hard, and what does better on these is no better elsewhere.
    """
    return PLAIN if verdict in ("none", "unlearnt") else chosen_of(methods, right, cell)


def chosen_of(methods: Sequence[str], right: Mapping[str, Tensor], cell: Tensor) -> str:
    """The first method that no other one beats by more than chance, of those that do better than the plain one.

    What is compared is the accuracy on held-out images as a mean over cells of class and pseudo bias label (uLA's
    rule, `valid_pseudo`). All methods are asked about the same images, so the standard error is that of the difference.

    Parameters
    ----------
    methods
        Those that are preferred first.
    right
        By method, which images it gets right, bool [N].
    cell
        The cell of each image, int64 [N].
    """
    plain = balanced(right[PLAIN], cell) if PLAIN in right else -math.inf
    methods = [method for method in methods if method == PLAIN or balanced(right[method], cell) > plain]

    def beaten(one: str, by: str) -> bool:
        mean, error = difference(right[by], right[one], cell)
        return mean > ENOUGH * error

    for method in methods:
        if not any(beaten(method, other) for other in methods if other != method):
            return method
    return max(methods, key=lambda method: balanced(right[method], cell))


def agreed_cells(target: Tensor, labels: Sequence[Tensor], classes: int) -> tuple[Tensor, Tensor]:
    """Images whose pseudo labels agree, and the cells of these: places int64 [M], cell of class and label int64 [M].

    A miner's mistakes fill the cells of images that go against the shortcut with others, and two miners seldom make the
    same one. All images are taken where there is one miner.

    target : int64 [N]; labels : of each miner, int64 [N]
    """
    same = torch.ones(len(target), dtype=torch.bool)
    for one in labels[1:]:
        same &= one == labels[0]
    places = torch.nonzero(same).flatten()
    first = labels[0] if labels else torch.zeros_like(target)
    return places, (target * classes + first)[places]


def held_out_labels(candidates: Mapping[str, Candidate]) -> list[Tensor]:
    """Pseudo labels of the held-out images, int64 [N], of every miner that was used, in the order of the methods."""
    found: dict[str, Tensor] = {}
    for one in candidates.values():
        if HELD_OUT_BIAS in one.outcome.artifacts:
            miner = next(name for name, about in one.outcome.stages.items() if not about.needs_bias_labels)
            found.setdefault(miner, take(one.outcome.artifacts, HELD_OUT_BIAS, BiasLabels).label)
    return list(found.values())


def balanced(right: Tensor, cell: Tensor) -> float:
    """Mean over cells of the share that is right, in [0, 1]."""
    values = [float(right[cell == one].float().mean()) for one in cell.unique()]
    return sum(values) / len(values) if values else math.nan


def difference(first: Tensor, second: Tensor, cell: Tensor) -> tuple[float, float]:
    """By how much the first is better as a mean over cells, and the standard error of that.

    A cell in which the two differ nowhere has the error of one image that might have: of few images nothing is certain.
    """
    means, variances = [], []
    for one in cell.unique():
        apart = first[cell == one].double() - second[cell == one].double()
        count = len(apart)
        means.append(float(apart.mean()))
        variances.append(max(float(apart.var(unbiased=False)), 1 / count) / count)
    return sum(means) / len(means), math.sqrt(sum(variances)) / len(means)
