"""Mined conflict scores and bias labels as artifacts: keyed by image id, checked against the data they are used on."""

from collections.abc import Mapping

import torch
from torch import Tensor

from data.split import Split
from errors import UserError
from metrics import average_precision, precision_recall
from training.artifacts import BiasLabels, ConflictScore, Report
from training.stage import Context


def score_artifact(ids: Tensor, score: Tensor, threshold: float, miner: str) -> ConflictScore:
    """The artifact `conflict_score`: per image id 0 (aligned) to 1 (conflicting); suspects are above the threshold."""
    if not bool(torch.isfinite(score).all()):
        raise UserError(f"{miner}: scores are not finite; its training diverged, lower the learning rate")
    return ConflictScore(ids.cpu(), score.float().clamp(0, 1).cpu(), float(threshold), miner)


def bias_artifact(ids: Tensor, label: Tensor, n_biases: int, kind: str) -> BiasLabels:
    """The artifact `bias`: a bias label per image id, `kind` true or pseudo."""
    return BiasLabels(ids.cpu(), label.long().cpu(), int(n_biases), kind)


def scores_for(artifact: ConflictScore, split: Split, stage: str) -> Tensor:
    """Conflict scores, float32 [N], in the order of a split and on its device; errors as of `labels_for`."""
    return _in_order(artifact.ids, artifact.score, "score", split, stage)


def labels_for(artifact: BiasLabels, split: Split, stage: str) -> Tensor:
    """Bias labels, int64 [N], in the order of a split and on its device.

    Raises
    ------
    UserError
        When images of the split are unknown to the artifact.
    """
    return _in_order(artifact.ids, artifact.label, "label", split, stage)


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
    """Mined flags, bool [N], in the order of a split; says so when nothing was mined, or nothing of a class."""
    flags = scores_for(artifact, split, ctx.stage) > artifact.threshold
    found = torch.zeros(ctx.task.n_targets, device=flags.device).index_add_(0, split.target, flags.float())
    if not bool(flags.any()):
        ctx.say(f"{ctx.stage}: {artifact.miner} mined no image at all; every image weighs the same")
    elif not bool((found > 0).all()):
        names = [ctx.task.target_names[i] for i in torch.nonzero(found == 0).flatten().tolist()]
        ctx.say(f"{ctx.stage}: {artifact.miner} mined no image of {', '.join(names)}; these are not up-weighted")
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


def report_of(figures: Mapping[str, float]) -> Report:
    """The report of a stage that trains nothing it evaluates."""
    return Report(summary=dict(figures))
