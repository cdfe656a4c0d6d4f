"""DeNetDM, stage 1: a shallow and a deep branch trained as a product of experts (NeurIPS 2024, section 4.1)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from debias.data.batches import Batch
from debias.models.branches import Branches, build_branches
from debias.models.registry import BACKBONES, seeded
from debias.randomness import derive
from debias.settings import Setting
from debias.stages.common.budget import training_batches
from debias.stages.common.classifier import optimiser_for, start_from_imagenet, training_settings
from debias.training.artifacts import TrainedBranches, TrainedModel
from debias.training.evaluation import map_images
from debias.training.job import Fitted, Job, Update
from debias.training.loop import fit
from debias.training.stage import Artifact, Context, Stage

# Times chance: a deep branch that gets fewer training images right than so has learnt nothing.
LEARNT = 1.5


class BranchesStage(Stage):
    """Cross-entropy of the shared classifier on the sum of both branches' features.

    The deep branch takes up the bias, the shallow one the target. No bias labels are used.
    """

    name = "branches"
    summary = "DeNetDM stage 1: train a shallow and a deep branch together"
    gives = ("branches", "model")
    read_outs = ("shallow", "deep", "poe")
    settings: ClassVar[Mapping[str, Setting]] = {
        "shallow": Setting(
            "mlp3",
            "network of the shallow branch",
            choices=tuple(BACKBONES),
        ),
        "deep": Setting(
            "mlp5",
            "network of the deep branch",
            choices=tuple(BACKBONES),
        ),
        **training_settings(
            epochs=Setting(
                100,
                "passes over the training images",
                low=1,
                quick=8,
            ),
            weight_decay=Setting(1e-3, "weight decay", low=0, search=("log", 1e-6, 1e-2)),
        ),
        "restarts": Setting(
            0, "how often to restart with other initial weights when the branches do not specialise", low=0
        ),
        "restart_after": Setting(2, "epochs after which to check this", low=1),
        "restart_below": Setting(
            85.0,
            "restart when the shallow branch corrects less than this share (%) of the deep one's mistakes on "
            "training images; no bias labels are read",
            low=0,
            high=100,
        ),
        "restart_dependent": Setting(
            0.0,
            "start again when what the deep branch misleads about is harder for the shallow one than other images: it "
            "reads less of it than this share (%) of what it reads of all; no bias labels are read",
            low=0,
            high=100,
        ),
    }

    def run(self, inputs: Mapping[str, Artifact], ctx: Context) -> dict[str, Artifact]:
        own, task = ctx.own, ctx.task
        spec = {
            "shallow": own["shallow"],
            "deep": own["deep"],
            "shape": list(task.image_shape),
            "classes": task.n_targets,
        }
        interrupted = ctx.folder.load_checkpoint()
        attempt = 0 if interrupted is None else int(interrupted.tensors["attempt"])
        while True:
            model, fitted = self._attempt(spec, attempt, ctx)
            if not fitted.stopped:
                break
            ctx.folder.drop_checkpoint()
            attempt += 1
            ctx.say(f"{self.name}: the branches have not parted; start {attempt + 1} of {own['restarts'] + 1}")
        figures = separation(model, fitted, ctx)
        if figures["separation/deep/train"] < LEARNT * 100 / task.n_targets:
            ctx.say(
                f"{self.name}: the deep branch has learnt nothing ({figures['separation/deep/train']:.1f} % of the "
                "training images), so its mistakes are no suspects; a method with a network biased on purpose may find "
                "them, as gce_transfer has"
            )
        report = replace(fitted.report().with_figures(figures), starts=attempt + 1)
        branches = TrainedBranches(spec, fitted.states())
        return {"branches": branches, "model": shallow_model(branches), "report": report}

    def _attempt(self, spec: Mapping[str, Any], attempt: int, ctx: Context) -> tuple[Branches, Fitted]:
        """Train from the first weights of an attempt, giving up early when it may be repeated and goes wrong."""
        own = ctx.own
        use = ("weights",) if attempt == 0 else ("weights", attempt)
        model = seeded(lambda: build_branches(spec), derive(ctx.seed, self.name, *use))
        assert isinstance(model, Branches)
        start_from_imagenet(ctx, {own["shallow"]: model.shallow})
        start_from_imagenet(ctx, {own["deep"]: model.deep})
        model.to(ctx.device).join()
        batches, rounds = training_batches(ctx, own, drop_last=True)

        def loss(batch: Batch) -> Tensor:
            return cross_entropy(model(batch.images), batch.target)

        def stop(done: int) -> bool:
            if attempt == own["restarts"] or done != own["restart_after"]:
                return False
            share, apart = corrected(model, ctx), independent(model, ctx)
            together = apart is not None and apart < own["restart_dependent"]
            return together or (share is not None and share < own["restart_below"])

        job = Job(
            model=model,
            updates=[Update(loss, optimiser_for(ctx, model.parameters()))],
            batches=batches,
            epochs=rounds,
            read_outs=model.read_outs,
            main="shallow",
            rule="conflicting",
            tensors={"attempt": torch.tensor(attempt)},
            stop=stop,
        )
        return model, fit(job, ctx)


def separation(model: Branches, fitted: Fitted, ctx: Context) -> dict[str, float]:
    """Whether the branches have parted, in percent, at the last epoch.

    `separation/corrected/last` and `separation/independent/last` need no bias labels (see `corrected`, `independent`);
    nor does `separation/deep/train`, how many training images the deep branch gets right. Where that is next to none
    the others say nothing: its mistakes are no suspects.
    `separation/conflicting/last` needs them: how far the shallow branch is ahead of the deep one on conflicting test
    images.
    """
    figures: dict[str, float] = {}
    right = _right(model, ctx)
    share, figures["separation/deep/train"] = _corrected(right), 100.0 * float(right[:, 1].double().mean())
    if share is not None:
        figures["separation/corrected/last"] = share
    apart = independent(model, ctx)
    if apart is not None:
        figures["separation/independent/last"] = apart
    last: Mapping[str, Any] = fitted.history[-1]
    if "shallow/conflicting" in last:
        figures["separation/conflicting/last"] = last["shallow/conflicting"] - last["deep/conflicting"]
    return figures


def corrected(model: Branches, ctx: Context) -> float | None:
    """Of the training images that the deep branch gets wrong, the share (%) that the shallow one gets right.

    None when the deep branch gets none wrong.
    """

    return _corrected(_right(model, ctx))


def _right(model: Branches, ctx: Context) -> Tensor:
    """Which training images the shallow and the deep branch get right, bool [N, 2]."""

    def hits(images: Tensor) -> Tensor:
        read: Mapping[str, Tensor] = model.read_outs(images)
        return torch.stack([read["shallow"].argmax(1), read["deep"].argmax(1)], dim=1)

    model.eval()
    return map_images(hits, ctx.task, ctx.train) == ctx.train.target[:, None]


def _corrected(right: Tensor) -> float | None:
    missed = ~right[:, 1]
    if not bool(missed.any()):
        return None
    return 100.0 * float((right[:, 0] & missed).sum() / missed.sum())


@torch.inference_mode()
def independent(model: Branches, ctx: Context) -> float | None:
    """How well the shallow branch reads what the deep one misleads about, beside how well it reads all, in percent.

    The deep branch misleads about a training image when a linear classifier fitted to its features, by least squares,
    gets the image wrong. Where one branch has taken up the bias and the other the target these images are not harder
    for the shallow branch than others: near 100. Where both read some of both, both err on the same images: below. The
    share that is corrected does not tell that: errors of a deep branch that reads the target come on top of it.

    None when there are no such images, or the shallow branch reads none at all. A CPU-GPU sync point.
    """
    model.eval()
    train, classes = ctx.train, ctx.task.n_targets
    known = map_images(lambda images: torch.cat(model.experts(images), dim=1), ctx.task, train)
    shallow, deep = known.chunk(2, dim=1)
    right = model.head(shallow).argmax(1) == train.target
    deep = torch.cat([deep - deep.mean(0), torch.ones_like(deep[:, :1])], dim=1)
    products = (deep.T @ deep).double().cpu()
    # Features that never fire would leave nothing to solve for.
    products += 1e-3 * products.diagonal().mean().clamp_min(1e-6) * torch.eye(len(products), dtype=torch.float64)
    wanted = (deep.T @ one_hot(train.target, classes).to(deep.dtype)).double().cpu()
    weights = torch.linalg.solve(products, wanted).to(deep)
    misled = (deep @ weights).argmax(1) != train.target
    if not bool(misled.any()) or not bool(right.any()):
        return None
    return 100.0 * float(right[misled].float().mean() / right.float().mean())


def shallow_model(branches: TrainedBranches) -> TrainedModel:
    """The shallow branch with the shared head as an artifact `model`, for stages that start from a trained network."""
    renamed = {
        selection: {
            name.replace("shallow.", "backbone.", 1): value
            for name, value in state.items()
            if name.startswith(("shallow.", "head."))
        }
        for selection, state in branches.states.items()
    }
    spec = branches.spec
    own = {"backbone": spec["shallow"], "shape": spec["shape"], "classes": spec["classes"]}
    return TrainedModel(own, renamed, read_out="shallow", initial="branches")
