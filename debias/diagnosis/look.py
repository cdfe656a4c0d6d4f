"""The whole diagnosis of one data set: networks, rates, properties, verdict."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from debias.data.mapped import in_memory
from debias.data.operators import OPERATORS, Operator
from debias.data.properties.descriptors import DESCRIPTORS, image_properties
from debias.data.properties.intervals import Share
from debias.data.properties.looked_at import is_grey
from debias.data.properties.prediction import Predicted, predicted
from debias.data.split import Task
from debias.diagnosis.files import FILE_PROPERTIES, file_properties
from debias.diagnosis.rates import Moved, Network, Pairs, draw_pairs, measure
from debias.diagnosis.verdict import Verdict, judge, ranked
from debias.models.registry import build_classifier
from debias.randomness import stream
from debias.stages.common.scores import labels_for, scores_for
from debias.stages.recipes import STAGES
from debias.training.artifacts import BiasLabels, ConflictScore, TrainedModel, take
from debias.training.walk import Walk

PAIRS = 300
STAGES_USED = ("shortcut", "bias_balanced")
_BLOCK = 1000
_READER_EPOCHS = 4
_LEAST_STEPS = 400


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    moved : every operator, the one that moves most first; empty where the network answers the same to every image
    properties : the best first; accuracy : of the network with the shortcut on held-out images, over classes
    corrected : of its mistakes there, what the network trained against it gets right
    without : classes without suspects
    answers : int64 [N], of every training image; pairs : which were asked about
    """

    task: Task
    verdict: Verdict
    moved: list[Moved]
    properties: list[Predicted]
    accuracy: Share
    corrected: Share | None
    answers: Tensor
    pairs: Pairs | None
    network: Network
    suspects: ConflictScore
    network_name: str
    without: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)


def adapted(settings: dict[str, Any], images: int) -> dict[str, Any]:
    """The run's settings with those of the second network, and passes enough where images are few."""
    changed = dict(settings)
    own = dict(settings["shortcut"])
    own["epochs"] = max(own["epochs"], -(-_LEAST_STEPS * own["batch_size"] // max(1, images)))
    changed["shortcut"] = own
    changed["bias_balanced"] = {
        **settings["bias_balanced"],
        **{name: own[name] for name in ("batch_size", "learning_rate", "optimiser", "weight_decay", "beta2")},
        "network": own["texture"],
        "epochs": max(_READER_EPOCHS, own["epochs"] * _READER_EPOCHS // 8),
        "steps": 0,
    }
    return changed


def look(walk: Walk, task: Task, seed: int, bar: Callable[[int], object] = lambda done: None) -> Diagnosis:
    """Train the networks, ask them, and judge.

    Parameters
    ----------
    walk
        Of `STAGES_USED` on the prepared task, under `adapted` settings.
    task
        As `prepare.prepared` gives it.
    seed
        Of pairs and folds.
    bar
        Told after each operator and property; `parts` says how many there are.
    """
    assert task.valid is not None
    walk.advance(STAGES["shortcut"])
    artifacts = walk.outcome.artifacts
    cpu = torch.device("cpu")
    easy = take(artifacts, "shortcut", TrainedModel)
    score = take(artifacts, "conflict_score", ConflictScore)
    network = rebuilt(easy, cpu)
    train, held = task.train, task.valid
    images = in_memory(train.images)
    answers = labels_for(take(artifacts, "bias", BiasLabels), train, "diagnose").cpu()
    reader = None
    # Where no image goes against what the network has learnt, there is nothing to train another one against it with.
    if not torch.equal(answers, train.target.cpu()):
        walk.settings["bias_balanced"]["network"] = easy.spec["backbone"]
        walk.advance(STAGES["bias_balanced"])
        reader = rebuilt(take(walk.outcome.artifacts, "model", TrainedModel), cpu)
    pairs = draw_pairs(answers, PAIRS, stream(seed, "pairs"))
    moved: list[Moved] = []
    if pairs is not None:
        used = operators_for(images)
        moved = measure(used, network, images, train.target, answers, pairs, task.n_targets, reader=reader, bar=bar)
    said, read = (answered(one or network, in_memory(held.images)) for one in (network, reader))
    wrong = said != held.target
    accuracy = balanced(said == held.target, held.target, task.n_targets)
    corrected: Share | None = Share(float((wrong & (read == held.target)).sum()), int(wrong.sum()))
    if reader is None or not bool(wrong.any()):
        corrected = None
    properties: dict[str, Any] = dict(image_properties(images, grey=is_grey(images)))
    if task.files is not None:
        properties |= file_properties([task.files[i] for i in train.ids.tolist()])
    told = predicted(properties, train.target, task.n_targets, seed, bar)
    return Diagnosis(
        task,
        judge(moved, accuracy, task.n_targets, corrected, told),
        ranked(moved),
        told,
        accuracy,
        corrected,
        answers,
        pairs,
        network,
        score,
        easy.read_out,
        without_suspects(score, task),
        notes(task),
    )


def parts(task: Task) -> int:
    """How often `look` tells its bar at most."""
    images = in_memory(task.train.images)
    return len(operators_for(images)) + len(DESCRIPTORS) + len(FILE_PROPERTIES)


def operators_for(images: Tensor) -> list[Operator]:
    """All of them; on grey images those about colours are left out, as they do what others do under a better name."""
    grey = is_grey(images)
    return [operator for operator in OPERATORS.values() if not (grey and operator.colour)]


def rebuilt(artifact: TrainedModel, device: torch.device) -> Network:
    """The network of a `model` artifact at its last epoch, in evaluation mode."""
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    return model.to(device).eval()


@torch.no_grad()
def answered(network: Network, images: Tensor) -> Tensor:
    """The class that a network sees in every uint8 image, int64 [N]."""
    return torch.cat([network(part.float() / 255).argmax(1) for part in images.split(_BLOCK)])


def balanced(right: Tensor, target: Tensor, classes: int) -> Share:
    """Mean over classes of the share that is right, as of so many images."""
    count = torch.bincount(target, minlength=classes)
    hits = torch.zeros(classes).index_add_(0, target, right.float())
    mean = float((hits[count > 0] / count[count > 0]).mean())
    return Share(mean * len(target), len(target))


def without_suspects(score: ConflictScore, task: Task) -> tuple[str, ...]:
    """Names of the classes of which no training image goes against what the network has learnt."""
    flags = scores_for(score, task.train, "diagnose") > score.threshold
    found = torch.bincount(task.train.target[flags], minlength=task.n_targets)
    return tuple(name for name, count in zip(task.target_names, found.tolist(), strict=True) if not count)


def notes(task: Task) -> tuple[str, ...]:
    """What about the images limits what can be said."""
    images, lines = in_memory(task.train.images), []
    if is_grey(images):
        lines.append("the images are grey: brightness and contrast stand for the colours")
    each = images.flatten(2)
    flat = (each.amax(2) == each.amin(2)).all(1).float().mean()
    if float(flat) > 0.01:
        lines.append(
            f"{float(flat):.0%} of the images are of one colour throughout: only their colour can be asked about"
        )
    if task.n_targets == 2:
        lines.append("with two classes a disturbed image often looks like the other one: read rates beside chance")
    return tuple(lines)
