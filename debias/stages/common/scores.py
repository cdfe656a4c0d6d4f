"""Mined conflict scores and bias labels as artifacts: keyed by image id, checked against the data they are used on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from debias.data.split import Split, Task
from debias.errors import UserError
from debias.metrics import average_precision, precision_recall
from debias.training.artifacts import Artifact, BiasLabels, ConflictScore, Report, TrainedModel
from debias.training.evaluation import map_images
from debias.training.heldout import HELD_OUT_BIAS, held_out_artifact
from debias.training.stage import Context

# The one that is asked for when there are to be none.
NO_MINER = "mine_none"
# What to change where a miner finds none; of others their settings.
_INSTEAD = {
    "mine_wrong": "the classifier before it knows them all by heart: train that for less, as by pretrain.epochs=1",
    "mine_gce": "its network gets them all right: train it for less (mine_gce.epochs, or mine_gce.steps where set)",
    "mine_depth": "the deep branch takes none for another class: fewer branches.epochs, or fewer mine_depth.epochs",
    "mine_ensemble": "lower mine_ensemble.tau, or train for fewer mine_ensemble.epochs",
    "mine_file": "mark images in mine_file.path, lower mine_file.threshold, or read another mine_file.column",
    "mine_oracle": "no image conflicts with its class: set a larger skew, or take method=erm",
    "mine_property": "no property alone tells the class: name one (mine_property.property), or take gce_balanced",
    "shortcut": "its networks get them all right: fewer shortcut.epochs",
}
# How many of the suspects somebody looks at first.
FIRST = 50


def score_artifact(
    ids: Tensor, score: Tensor, threshold: float, miner: str, log_odds: Tensor | None = None
) -> ConflictScore:
    """The artifact `conflict_score`: per image id 0 (aligned) to 1 (conflicting); suspects are above the threshold.

    log_odds : what images are ranked by, where scores are too near 1 to tell (`losses.gce.log_odds`)
    """
    if not bool(torch.isfinite(score).all()):
        raise UserError(f"{miner}: scores are not finite; its training diverged, lower the learning rate")
    ranks = torch.empty(0) if log_odds is None else log_odds.float().nan_to_num(0.0).cpu()
    return ConflictScore(ids.cpu(), score.float().clamp(0, 1).cpu(), float(threshold), miner, ranks)


def mined_scores(ctx: Context, score: Tensor, threshold: float, log_odds: Tensor | None = None) -> ConflictScore:
    """The artifact `conflict_score` of the running miner; says so when there is not a single suspect.

    Parameters and errors as of `score_artifact`; score, log_odds : [N], in the order of the training images
    """
    artifact = score_artifact(ctx.train.ids, score, threshold, ctx.stage, log_odds)
    if not bool((artifact.score > artifact.threshold).any()):
        ctx.say(none_found(artifact))
    return artifact


def none_found(artifact: ConflictScore) -> str:
    """What to say of a miner without suspects: its name, and what to change."""
    instead = _INSTEAD.get(artifact.miner, f"change settings of {artifact.miner}, or take another miner")
    return f"{artifact.miner} found NO suspect among {len(artifact.ids)} training images: {instead}"


def bias_artifact(ids: Tensor, label: Tensor, n_biases: int, kind: str) -> BiasLabels:
    """The artifact `bias`: a bias label per image id, `kind` true or pseudo."""
    return BiasLabels(ids.cpu(), label.long().cpu(), int(n_biases), kind)


def pseudo_labels(
    model: nn.Module, spec: Mapping[str, Any], read_out: str, train: Tensor, ctx: Context
) -> tuple[BiasLabels, dict[str, Artifact]]:
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
    Pseudo labels of the training images, and by name `bias`, the same; `shortcut`, the network; `held_out_bias`, labels
    of held-out images, by which later stages select.
    """
    task, model = ctx.task, model.eval()
    held_out = None if task.valid is None else map_images(model, task, task.valid.without_bias()).argmax(1)
    state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    bias = bias_artifact(ctx.train.ids, train.argmax(1), task.n_targets, "pseudo")
    return bias, {
        "shortcut": TrainedModel(dict(spec), {"last": state}, read_out, ctx.stage),
        "bias": bias,
        HELD_OUT_BIAS: held_out_artifact(task, held_out, task.n_targets),
    }


def pseudo_figures(pseudo: Tensor, task: Task) -> dict[str, float]:
    """How many pseudo labels are right, of all and of conflicting images, in percent; empty where nothing tells.

    A pseudo label names the class that an image looks like: right when the image's bias is tied to that class. True
    labels are read for this report only.
    """
    train = task.train
    looks_right = task.aligned(replace(train, target=pseudo.to(train.target.device)))
    aligned, conflicting = task.aligned(train), task.conflicting(train)
    if looks_right is None or aligned is None or conflicting is None:
        return {}
    return {
        f"pseudo_bias/{what}/train": 100.0 * float(looks_right[which].float().mean())
        for what, which in (("accuracy", aligned | conflicting), ("conflicting", conflicting))
        if bool(which.any())
    }


def scores_for(artifact: ConflictScore, split: Split, stage: str) -> Tensor:
    """Conflict scores, float32 [N], in the order of a split and on its device; errors as of `labels_for`."""
    return _in_order(artifact.ids, artifact.score, "score", split, stage)


def ranks_for(artifact: ConflictScore, split: Split, stage: str) -> Tensor:
    """What images are ranked by, float32 [N], in the order of a split and on its device; errors as of `labels_for`."""
    return _in_order(artifact.ids, artifact.order, "score", split, stage)


def labels_for(artifact: BiasLabels, split: Split, stage: str) -> Tensor:
    """Bias labels, int64 [N], in the order of a split and on its device.

    Raises
    ------
    UserError
        When images of the split are unknown to the artifact.
    """
    return _in_order(artifact.ids, artifact.label, "label", split, stage)


def groups_for(artifact: BiasLabels, split: Split, stage: str) -> Tensor:
    """`labels_for` of a stage that sets images of a class with different bias labels against each other.

    Raises
    ------
    UserError
        Pseudo labels that are every image's own class: there is nothing to set against anything.
    """
    labels = labels_for(artifact, split, stage)
    if artifact.kind == "pseudo" and len(labels) and torch.equal(labels, split.target):
        raise UserError(
            f"{stage}: the pseudo bias labels name every training image's own class, so none conflicts; train the "
            "network that gives them for less, or make it smaller"
        )
    return labels


def _in_order(ids: Tensor, values: Tensor, called: str, split: Split, stage: str) -> Tensor:
    known, order = ids.sort()
    wanted = split.ids.cpu()
    place = torch.searchsorted(known, wanted).clamp(max=max(len(known) - 1, 0))
    missing = wanted != known[place] if len(known) else torch.ones_like(wanted, dtype=torch.bool)
    if bool(missing.any()):
        raise UserError(
            f"{stage}: {int(missing.sum())} of {len(wanted)} training images have no {called} (first id "
            f"{int(wanted[missing][0])}); it was computed on other data"
        )
    return values[order[place]].to(split.device)


def flags_for(artifact: ConflictScore, split: Split, ctx: Context) -> Tensor:
    """Mined flags, bool [N], in the order of a split; says so when nothing was mined of a class.

    Raises
    ------
    UserError
        Nothing was mined at all, by any miner but `mine_none`: weighing suspects up would be plain training under
        another name.
    """
    flags = scores_for(artifact, split, ctx.stage) > artifact.threshold
    found = torch.zeros(ctx.task.n_targets, device=flags.device).index_add_(0, split.target, flags.float())
    if artifact.miner == NO_MINER:
        ctx.say(f"{ctx.stage}: {artifact.miner} mined no image at all; every image weighs the same")
        return flags
    if not bool(flags.any()):
        raise UserError(f"{ctx.stage} weighs suspects up, and {none_found(artifact)}")
    if not bool((found > 0).all()):
        names = [ctx.task.target_names[i] for i in torch.nonzero(found == 0).flatten().tolist()]
        ctx.say(f"{ctx.stage}: {artifact.miner} mined no image of {', '.join(names)}; these are not up-weighted")
    return flags


def mining_figures(score: Tensor, threshold: float, task: Task, ranks: Tensor | None = None) -> dict[str, float]:
    """Share of suspects among the training images and, where it can be said which of these conflict, precision, recall
    and average precision, in percent.

    `mined/first_50/train` is the share of conflicting images among the 50 that are ranked first, by `ranks` where these
    are given, else by their scores. True labels are read for this report only.
    """
    flags = (score > threshold).cpu()
    figures = {"mined/share/train": 100.0 * float(flags.float().mean())}
    conflicting = task.conflicting(task.train)
    if conflicting is not None:
        conflicting = conflicting.cpu()
        precision, recall = precision_recall(flags, conflicting)
        named = {
            "precision": precision,
            "recall": recall,
            "average_precision": average_precision(score.cpu() if ranks is None else ranks.cpu(), conflicting),
            "first_50": first_precision(score if ranks is None else ranks, conflicting),
        }
        figures |= {f"mined/{name}/train": 100.0 * value for name, value in named.items() if value == value}
    return figures


def first_precision(ranks: Tensor, conflicting: Tensor, count: int = FIRST) -> float:
    """Share of conflicting images, bool [N], among the `count` that are ranked highest; in order where ranks agree."""
    first = torch.argsort(ranks.cpu(), descending=True, stable=True)[:count]
    return float(conflicting[first].float().mean())


def report_of(figures: Mapping[str, float]) -> Report:
    """The report of a stage that trains nothing it evaluates."""
    return Report(summary=dict(figures))
