"""How long a stage trains: passes over the data, or steps that are evaluated now and then."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from debias.data.batches import Batches
from debias.errors import UserError
from debias.settings import Setting
from debias.training.stage import Context

STEPS = Setting(0, "training steps; 0: train for `epochs` instead", low=0)
EVALUATE_EVERY = Setting(500, "steps between two evaluations, when `steps` is set", low=1)


def training_batches(
    ctx: Context, own: Mapping[str, Any], *, weights: Tensor | None = None, drop_last: bool = False
) -> tuple[Batches, int]:
    """Training batches of the running stage and how many rounds (epochs, or `evaluate_every` steps) to train.

    A pass that would end with a batch of a single image leaves it out; the next pass has another order.

    Parameters
    ----------
    ctx
        Surroundings; the training images come without bias labels unless the stage declared its need.
    own
        Settings `batch_size`, `epochs` and, where the stage has them, `steps` and `evaluate_every`.
    weights
        Sampling weights [N], or None for every image once a pass.
    drop_last
        Whether passes leave out the last batch that is not full.

    Raises
    ------
    UserError
        When `steps` is not a multiple of `evaluate_every`.
    """
    task, train, size = ctx.task, ctx.train, own["batch_size"]
    steps = own.get("steps", 0)
    rounds, draws = own["epochs"], None
    if steps:
        every = min(own["evaluate_every"], steps)
        if steps % every:
            raise UserError(
                f"{ctx.stage}.steps={steps} is not a multiple of {ctx.stage}.evaluate_every={every}; change either"
            )
        rounds, draws = steps // every, every * size
    batches = Batches(
        train,
        size,
        mean=task.mean,
        std=task.std,
        augment=task.augment,
        weights=weights,
        draws=draws,
        drop_last=drop_last,
        drop_single=True,
    )
    return batches, rounds
