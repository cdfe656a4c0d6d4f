"""Mined conflict scores and bias labels as artifacts: keyed by image id, checked against the data they are used on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.split import Split, Task
from errors import UserError
from metrics import average_precision, precision_recall
from training.evaluation import map_images
from training.heldout import HELD_OUT_BIAS, held_out_artifact
from training.stage import Context


def score_artifact(ids: Tensor, score: Tensor, threshold: float, miner: str) -> dict[str, Any]:
    """The artifact `conflict_score`: per image id 0 (aligned) to 1 (conflicting); suspects are above the threshold."""
    if not bool(torch.isfinite(score).all()):
        raise UserError(f"{miner}: scores are not finite; its training diverged, lower the learning rate")
    return {"ids": ids.cpu(), "score": score.float().clamp(0, 1).cpu(), "threshold": float(threshold), "miner": miner}


def bias_artifact(ids: Tensor, label: Tensor, n_biases: int, kind: str) -> dict[str, Any]:
    """The artifact `bias`: a bias label per image id, `kind` true or pseudo."""
    return {"ids": ids.cpu(), "label": label.long().cpu(), "n_biases": int(n_biases), "kind": kind}


def pseudo_labels(
    model: nn.Module, spec: Mapping[str, Any], read_out: str, train: Tensor, ctx: Context
) -> dict[str, Any]:
    """The artifacts that a network which has learnt the shortcut gives: itself, and what it takes images for.

    Parameters
    ----------
    model, spec
        A `Classifier`, and what it is built from.
    read_out
        The name of its logits.
    train
        Its logits of the training images, [N, classes].

    Returns
    -------
    `shortcut`, the network as spec and state; `bias`, pseudo labels of the training images; `held_out_bias`,
    those of held-out ones, by which later stages select.
    """
    task, model = ctx.task, model.eval()
    held_out = None if task.valid is None else map_images(model, task, task.valid.without_bias()).argmax(1)
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    return {
        "shortcut": {"spec": dict(spec), "state": state, "read_out": read_out},
        "bias": bias_artifact(ctx.train.ids, train.argmax(1), task.n_targets, "pseudo"),
        HELD_OUT_BIAS: held_out_artifact(task, held_out, task.n_targets),
    }


def pseudo_figures(pseudo: Tensor, task: Task) -> dict[str, float]:
    """How many pseudo labels are right, of all and of conflicting images, in percent; empty where nothing tells.

    True labels are read for this report only.
    """
    train = task.train
    if train.bias is None or task.n_biases != task.n_targets:
        return {}
    right = (pseudo.to(train.bias.device) == train.bias).float()
    figures = {"pseudo_bias/accuracy/train": 100.0 * float(right.mean())}
    conflicting = train.bias != train.target
    if bool(conflicting.any()):
        figures["pseudo_bias/conflicting/train"] = 100.0 * float(right[conflicting].mean())
    return figures


def values_for(artifact: Mapping[str, Any], column: str, split: Split, stage: str) -> Tensor:
    """The artifact's column in the order of a split, on its device.

    Raises
    ------
    UserError
        When images of the split are unknown to the artifact.
    """
    known, order = artifact["ids"].sort()
    wanted = split.ids.cpu()
    place = torch.searchsorted(known, wanted).clamp(max=max(len(known) - 1, 0))
    missing = wanted != known[place] if len(known) else torch.ones_like(wanted, dtype=torch.bool)
    if bool(missing.any()):
        raise UserError(
            f"{stage}: {int(missing.sum())} of {len(wanted)} training images have no {column} (first id "
            f"{int(wanted[missing][0])}); it was computed on other data"
        )
    return artifact[column][order[place]].to(split.device)


def flags_for(artifact: Mapping[str, Any], split: Split, ctx: Context) -> Tensor:
    """Mined flags, bool [N], in the order of a split; says so when nothing was mined, or nothing of a class."""
    flags = values_for(artifact, "score", split, ctx.stage) > artifact["threshold"]
    found = torch.zeros(ctx.task.n_targets, device=flags.device).index_add_(0, split.target, flags.float())
    if not bool(flags.any()):
        ctx.say(f"{ctx.stage}: {artifact['miner']} mined no image at all; every image weighs the same")
    elif not bool((found > 0).all()):
        names = [ctx.task.target_names[i] for i in torch.nonzero(found == 0).flatten().tolist()]
        ctx.say(f"{ctx.stage}: {artifact['miner']} mined no image of {', '.join(names)}; these are not up-weighted")
    return flags


def mining_figures(score: Tensor, threshold: float, task_train: Split) -> dict[str, float]:
    """Share of suspects and, where true bias labels exist, precision, recall and average precision, in percent.

    True labels are read for this report only.
    """
    flags = (score > threshold).cpu()
    figures = {"mined/share/train": 100.0 * float(flags.float().mean())}
    if task_train.bias is not None:
        conflicting = (task_train.bias != task_train.target).cpu()
        precision, recall = precision_recall(flags, conflicting)
        named = {
            "precision": precision,
            "recall": recall,
            "average_precision": average_precision(score.cpu(), conflicting),
        }
        figures |= {f"mined/{name}/train": 100.0 * value for name, value in named.items() if value == value}
    return figures


def report_of(figures: Mapping[str, float]) -> dict[str, Any]:
    """The report of a stage that trains nothing it evaluates."""
    return {"history": [], "summary": dict(figures), "matrices": {}, "epochs": {}}
