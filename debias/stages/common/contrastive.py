"""The contrastive part of DCWP's losses, which pruning and fine-tuning share."""

from torch import Tensor

from debias.data.batches import Batch
from debias.losses.contrastive import supervised_contrastive
from debias.settings import Setting
from debias.training.stage import Context

CONTRASTIVE: dict[str, Setting] = {
    "contrastive_weight": Setting(0.05, "weight of the contrastive loss", low=0, search=("uniform", 0.0, 0.2)),
    "contrastive_mask": Setting(
        "column", "positives: the other image is a suspect (as executed), or either is", choices=("column", "either")
    ),
}


class ContrastiveTerm:
    """What is added to the cross-entropy of a batch: images are pulled towards mined ones of their target.

    Parameters
    ----------
    ctx
        Of a stage with the settings `CONTRASTIVE`.
    flags
        float [N], 1 where a training image was mined as conflicting, in the order of the training images.
    """

    def __init__(self, ctx: Context, flags: Tensor) -> None:
        self._weight, self._mask, self._flags = ctx.own["contrastive_weight"], ctx.own["contrastive_mask"], flags

    def added_to(self, total: Tensor, features: Tensor, batch: Batch) -> Tensor:
        """The loss with the term; unchanged, and nothing computed, where its weight is 0. features : float [B, D]"""
        return total + self._weight * self.loss(features, batch) if self._weight else total

    def loss(self, features: Tensor, batch: Batch) -> Tensor:
        """The term without its weight, a scalar."""
        flag = self._flags.index_select(0, batch.index)
        return supervised_contrastive(features, batch.target, flag, mask=self._mask)
