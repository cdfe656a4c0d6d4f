"""Stages that mine nothing: true bias labels asked for by name, and no suspects at all."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from debias.errors import UserError
from debias.settings import Setting
from debias.stages.common.scores import bias_artifact, mined_scores, mining_figures, report_of, score_artifact
from debias.training.stage import Artifact, Context, Stage


class MineOracle(Stage):
    """True bias labels say which images conflict: the ceiling of every miner, marked as such in results."""

    name = "mine_oracle"
    summary = "suspects: the truly conflicting images (reads bias labels)"
    gives = ("conflict_score",)
    takes_vector = True
    needs_bias_labels = True
    settings: ClassVar[Mapping[str, Setting]] = {}
    shared = ()

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        _labels(ctx)
        conflicting = ctx.task.conflicting(ctx.train)
        if conflicting is None:
            raise UserError(
                f"{self.name}: no class of {ctx.task.name} is tied to a value of the bias, so no image can be said to "
                "conflict"
            )
        score = conflicting.float()
        report = report_of(mining_figures(score, 0.5, ctx.task))
        return {"conflict_score": mined_scores(ctx, score, 0.5), "report": report}


class TrueBias(Stage):
    """True bias labels for a method that wants bias labels."""

    name = "true_bias"
    summary = "true bias labels, for methods that need bias labels"
    gives = ("bias",)
    takes_vector = True
    needs_bias_labels = True
    settings: ClassVar[Mapping[str, Setting]] = {}
    shared = ()

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        bias = bias_artifact(ctx.train.ids, _labels(ctx), ctx.task.n_biases, "true")
        return {"bias": bias, "report": report_of({})}


class MineNone(Stage):
    """No suspects: every image weighs the same."""

    name = "mine_none"
    summary = "no suspects at all"
    gives = ("conflict_score",)
    takes_vector = True
    settings: ClassVar[Mapping[str, Setting]] = {}
    shared = ()

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        score = torch.zeros(len(ctx.train), device=ctx.device)
        return {"conflict_score": score_artifact(ctx.train.ids, score, 0.5, self.name), "report": report_of({})}


def _labels(ctx: Context) -> Tensor:
    if ctx.train.bias is None:
        raise UserError(f"{ctx.stage} reads bias labels, and {ctx.task.name} has none; use a label-free method")
    return ctx.train.bias
