"""What training steps share, of one job or of several: sums of what they give, their graph, errors for the user."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from debias.errors import UserError
from debias.training.captured import Captured, wants_capture
from debias.training.job import Job
from debias.training.stage import Context


def captured_step(
    step: Callable[[Tensor], None], jobs: Sequence[Job], generators: Sequence[torch.Generator], ctx: Context
) -> Captured | None:
    """A step on positions of the jobs' images as a CUDA graph; None where it cannot or is not to be one."""
    able = all(job.capturable and job.batches.in_memory for job in jobs)
    if not (able and wants_capture(ctx.settings, ctx.device)):
        return None
    return Captured(step, jobs[0].batches.batch_size, ctx.device, generators)


def add_to(totals: dict[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Add values to sums by name, in place; the first of a name is copied."""
    for name, value in values.items():
        if name in totals:
            totals[name] += value.detach()
        else:
            totals[name] = value.detach().clone()


def told(error: ValueError, stage: str) -> Exception:
    """The error of a loss; of batch normalisation on one value as one for the user, who chose the batches."""
    if "more than 1 value per channel" not in str(error):
        return error
    return UserError(
        f"{stage}: batch normalisation needs more than one image in a batch: set {stage}.batch_size to at least 2, or "
        "a larger image_size"
    )
