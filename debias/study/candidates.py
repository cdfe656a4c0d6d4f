"""The methods that a study trains, and what they say of images that were held out."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from debias.data.mapped import in_memory
from debias.data.operators.base import Operator, moved
from debias.data.split import Split, Task, stratified_choice
from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.randomness import stream
from debias.stages.moved import moved_features
from debias.stages.recipes import stages_of
from debias.study.choice import PLAIN, Evidence
from debias.training.artifacts import BiasLabels, TrainedModel, take
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.store import Store
from debias.training.walk import Outcome, run_stages

# In the order in which they are preferred where they do equally well.
WHERE_NAMED = ("property_moved", "gce_balanced", "property_balanced", PLAIN)
ELSEWHERE = (PLAIN, "gce_balanced")
MOVED = 2000  # images, at most, that are given the shortcut of others


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


def held_out_labels(candidates: Mapping[str, Candidate]) -> list[Tensor]:
    """Pseudo labels of the held-out images, int64 [N], of every miner that was used, in the order of the methods."""
    found: dict[str, Tensor] = {}
    for one in candidates.values():
        if HELD_OUT_BIAS in one.outcome.artifacts:
            miner = next(name for name, about in one.outcome.stages.items() if not about.needs_bias_labels)
            found.setdefault(miner, take(one.outcome.artifacts, HELD_OUT_BIAS, BiasLabels).label)
    return list(found.values())


def on_moved(
    candidates: Mapping[str, Candidate],
    task: Task,
    split: Split,
    operator: Operator,
    settings: Mapping[str, Any],
    device: torch.device,
    progress: bool,
) -> Evidence:
    """What the candidates get right of images that are given the shortcut of others of them, whatever their class.

    Cells are of class and class of the donor, whose shortcut most donors have: so half of the images of two classes go
    against it, where of the images as they are a handful does.

    split : images, or features, that nothing was trained on; settings : of the run, among them seed, data_dir,
    cache_dir, threads
    """
    seed = int(settings["seed"])
    share = MOVED / len(split)
    if share < 1:
        chosen = stratified_choice(split.target.cpu(), share, stream(seed, "images to move"))
        split = split.subset(torch.nonzero(chosen).flatten().to(split.device))
    donors = torch.randint(len(split), (len(split),), generator=stream(seed, "donors of others"))
    if task.features is None:
        images = moved(operator.apply, in_memory(split.images).cpu(), donors)
    else:
        images = moved_features(
            task, split, operator.apply, operator.where, [donors], settings, device, progress=progress
        )
    given, target = replace(split, images=images.to(split.device)), split.target.cpu()
    right = {name: answers(one.model, task, given, device).argmax(1) == target for name, one in candidates.items()}
    return Evidence(right, target * task.n_targets + target[donors])
