"""One pass over a split in large batches: the target x bias matrix of every read-out, and all its figures."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from debias.data.batches import Batches
from debias.data.split import Split, Task
from debias.metrics import GroupMatrix
from debias.training.evaluators import Evaluator, Groups, groups_of, others_of

# Given images [B, C, H, W], or images and vectors where there is a second modality (`Batch.inputs`).
ReadOuts = Callable[[Any], Mapping[str, Tensor]]

# Values of one evaluation batch: large enough to be limited by arithmetic, small enough for any memory.
_VALUES = 5_000_000
# On a GPU, where launches limit small networks: their 10,000 test images are one batch.
_VALUES_ON_GPU = 25_000_000


def in_order(task: Task, split: Split) -> Batches:
    """Batches of a split for evaluation: in order, not augmented, as large as is sensible."""
    values = _VALUES_ON_GPU if split.device.type == "cuda" else _VALUES
    size = max(1, min(len(split), values // math.prod(task.image_shape)))
    return Batches(split, size, mean=task.mean, std=task.std, shuffle=False)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a pass gave of one read-out: its matrix, and its figures in percent by name, those of the matrix first."""

    matrix: GroupMatrix
    figures: Mapping[str, float]


@torch.inference_mode()
def evaluate(model: nn.Module, read_outs: ReadOuts, task: Task, split: Split) -> dict[str, Evaluation]:
    """All figures of every read-out on a split, whose own bias labels count: none where they are withheld.

    The model is put into evaluation mode for the pass and back into the mode it was in. A CPU-GPU sync point, after the
    last batch.
    """
    found: dict[str, tuple[Groups, list[Evaluator]]] = {}
    training = model.training
    model.eval()
    for batch in in_order(task, split).epoch():
        for name, logits in read_outs(batch.inputs).items():
            if name not in found:
                found[name] = groups_of(task), others_of(task)
            groups, others = found[name]
            for evaluator in (groups, *others):
                evaluator.update(logits, batch.target, batch.bias)
    model.train(training)
    return {name: _result(groups, others) for name, (groups, others) in found.items()}


def _result(groups: Groups, others: list[Evaluator]) -> Evaluation:
    figures = groups.figures()
    for evaluator in others:
        figures |= evaluator.figures()
    return Evaluation(groups.matrix(), figures)


def evaluate_on_tests(model: nn.Module, read_outs: ReadOuts, task: Task) -> dict[str, Evaluation]:
    """Every read-out on the test set, and as <read-out>@<name> on every extra one. A CPU-GPU sync point.

    A read-out's name holds no @ of its own, so none is ever mistaken for another's.
    """
    found = evaluate(model, read_outs, task, task.test)
    for test, split in task.extra_tests.items():
        extra = evaluate(model, read_outs, task, split)
        found |= {f"{name}@{test}": evaluation for name, evaluation in extra.items()}
    return found


@torch.inference_mode()
def map_images(function: Callable[[Any], Tensor], task: Task, split: Split) -> Tensor:
    """`function` of the inputs of every image of a split, not augmented, concatenated in order."""
    return torch.cat([function(batch.inputs) for batch in in_order(task, split).epoch()])
