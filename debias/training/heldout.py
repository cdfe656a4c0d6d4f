"""Selection without bias labels: held-out training images in cells of target x pseudo bias label (uLA's rule)."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from debias.data.split import Task
from debias.training.artifacts import BiasLabels
from debias.training.evaluation import ReadOuts, evaluate

# The artifact, in the form of `bias`, by which later stages select; what its selection is called; and the figure that
# it compares, which is not `unbiased`, as its cells are of pseudo labels.
HELD_OUT_BIAS = "held_out_bias"
SELECTION = "valid_pseudo"
FIGURE = "pseudo_unbiased"


def with_pseudo_labels(task: Task, artifact: BiasLabels | None) -> Task | None:
    """The task with pseudo labels instead of the bias labels of its held-out images; None where there are none.

    Images that are not held out of the training images (`valid_unbiased`) know more than a biased setting gives away:
    what is selected on them is not called `valid_pseudo`.
    """
    if artifact is None or task.valid is None or task.selection != "valid":
        return None
    if not torch.equal(artifact.ids, task.valid.ids.cpu()):
        raise ValueError("pseudo labels of other held-out images")
    labels = artifact.label.to(task.valid.device)
    names = tuple(map(str, range(artifact.n_biases)))
    return replace(task, valid=replace(task.valid, bias=labels), bias_names=names)


def unbiased_on_held_out(model: nn.Module, read_outs: ReadOuts, pseudo: Task) -> dict[str, float]:
    """By read-out: accuracy in percent, the mean over cells of target and pseudo label. A CPU-GPU sync point.

    pseudo : as `with_pseudo_labels` gives it
    """
    assert pseudo.valid is not None
    found = {name: one.matrix.unbiased for name, one in evaluate(model, read_outs, pseudo, pseudo.valid).items()}
    return {name: value for name, value in found.items() if value is not None}


def held_out_artifact(task: Task, labels: Tensor | None, n_biases: int) -> BiasLabels:
    """The artifact `held_out_bias`: the label of every held-out image by id; none where nothing is held out."""
    empty = torch.empty(0, dtype=torch.int64)
    ids = empty if task.valid is None or labels is None else task.valid.ids.cpu()
    label = empty if labels is None else labels.long().cpu()
    return BiasLabels(ids, label, int(n_biases), "pseudo")
