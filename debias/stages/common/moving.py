"""Operators in training and what they do to a network: images with one property of others, whatever the target."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from debias.data.operators import Operator
from debias.data.split import Split, Task
from debias.randomness import generator_for
from debias.training.stage import Context

# Images that operators are measured on simultaneously.
_PART = 500


class MovedBatch(NamedTuple):
    """images float32 [B, C, H, W], normalised; donor int64 [B], place in the batch; moved bool [B], who was changed."""

    images: Tensor
    donor: Tensor
    moved: Tensor


class Mover:
    """Gives a share of a batch's images a property of others of the batch.

    Donors are drawn evenly, so that they are independent of the target as the batch is drawn evenly. All draws come
    from the generator that is passed in, and nothing is read on the host.

    Parameters
    ----------
    operator
        What is moved.
    share
        Of the images, in [0, 1]; each is drawn on its own.
    task
        Whose normalisation is undone before the operator, which wants images in [0, 1], and done again after it.
    """

    def __init__(self, operator: Operator, share: float, task: Task) -> None:
        self.operator = operator
        self.share = share
        self._scale = normalisation(task)

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> MovedBatch:
        count, device = len(images), images.device
        donor = torch.randint(count, (count,), generator=generator, device=device)
        # Rounding leaves values a little outside.
        plain = self._scale.undone(images).clamp(0, 1)
        changed = self._scale.done(self.operator.taking_away(plain, plain.index_select(0, donor)))
        if self.share >= 1:
            return MovedBatch(changed, donor, torch.ones(count, dtype=torch.bool, device=device))
        moved = torch.rand(count, generator=generator, device=device) < self.share
        return MovedBatch(torch.where(moved.view(-1, 1, 1, 1), changed, images), donor, moved)


class Rates(NamedTuple):
    """Of pairs of images whose pseudo labels differ, in percent: what a network answers on x with a property of z.

    transferred : the pseudo label of z; stays : that of x; kept : what a network that reads the target answers on x
    itself, None where there is no such network
    """

    transferred: float
    stays: float
    kept: float | None


class Normalisation(NamedTuple):
    """What is taken off images in [0, 1] and what they are divided by, [C, 1, 1] each."""

    centre: Tensor
    spread: Tensor

    def done(self, images: Tensor) -> Tensor:
        """Images as a network gets them."""
        return (images - self.centre) / self.spread

    def undone(self, images: Tensor) -> Tensor:
        """Images in [0, 1]."""
        return images * self.spread + self.centre


def normalisation(task: Task) -> Normalisation:
    """That of a task's images, on its device; one that changes nothing where they are not normalised."""
    channels, device = task.image_shape[0], task.train.device
    mean, std = task.mean or (0.0,) * channels, task.std or (1.0,) * channels
    return Normalisation(*(torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std)))


@torch.inference_mode()
def rates_of(
    operators: Mapping[str, Operator],
    shortcut: nn.Module,
    reader: Callable[[Tensor], Tensor] | None,
    labels: Tensor,
    pairs: int,
    ctx: Context,
) -> dict[str, Rates]:
    """How far each operator moves a network's answers, on pairs of random training images. A CPU-GPU sync point.

    Parameters
    ----------
    shortcut
        The network that has learnt the shortcut.
    reader
        Logits of a network that reads the target; None where there is none.
    labels
        Pseudo bias label of every training image, int64 [N].
    pairs
        At most so many; none when all labels are the same.

    Returns
    -------
    The rates by operator; empty where there are no pairs.
    """
    first, second = _pairs(labels, pairs, ctx)
    if not len(first):
        return {}
    shortcut.eval()
    counts = {name: torch.zeros(3, device=ctx.device) for name in operators}
    scale = normalisation(ctx.task)
    for one, other in zip(first.split(_PART), second.split(_PART), strict=True):
        x, z = _images(ctx.train, one), _images(ctx.train, other)
        own = None if reader is None else reader(scale.done(x)).argmax(1)
        for name, operator in operators.items():
            changed = scale.done(operator.apply(x, z))
            answer = shortcut(changed).argmax(1)
            counts[name][0] += (answer == labels[other]).sum()
            counts[name][1] += (answer == labels[one]).sum()
            if reader is not None and own is not None:
                counts[name][2] += reader(changed).argmax(1).eq(own).sum()
    shares = {name: (100 * found / len(first)).tolist() for name, found in counts.items()}
    return {
        name: Rates(moved, stays, None if reader is None else kept) for name, (moved, stays, kept) in shares.items()
    }


@torch.inference_mode()
def right_under(operators: Mapping[str, Operator], model: nn.Module, split: Split, ctx: Context) -> dict[str, float]:
    """Percent that a network gets right of images under each operator, as a mean over targets. A CPU-GPU sync point.

    Donors are drawn from the same images, whatever the target; every operator gets the same.
    """
    generator = generator_for(ctx.device, ctx.seed, ctx.stage, "donors")
    count, classes = len(split.target), ctx.task.n_targets
    donor = torch.randint(count, (count,), generator=generator, device=ctx.device)
    places = torch.arange(count, device=ctx.device)
    model.eval()
    scale = normalisation(ctx.task)
    target = split.target.to(ctx.device)
    right = {name: torch.zeros(count, device=ctx.device) for name in operators}
    for one, other in zip(places.split(_PART), donor.split(_PART), strict=True):
        x, z = _images(split, one), _images(split, other)
        for name, operator in operators.items():
            answer = model(scale.done(operator.apply(x, z))).argmax(1)
            right[name][one] = answer.eq(target[one]).float()
    of_class = torch.bincount(target, minlength=classes)
    seen = of_class > 0
    return {
        name: float(100 * (torch.bincount(target, found, minlength=classes)[seen] / of_class[seen]).mean())
        for name, found in right.items()
    }


def _pairs(labels: Tensor, pairs: int, ctx: Context) -> tuple[Tensor, Tensor]:
    """Places of images in pairs whose labels differ, int64 [P] each, P at most `pairs`."""
    generator = generator_for(ctx.device, ctx.seed, ctx.stage, "pairs")
    # Two images of ten classes mostly differ; where nearly all have one label few pairs are left.
    drawn = torch.randint(len(labels), (2, 4 * pairs), generator=generator, device=ctx.device)
    differ = labels[drawn[0]] != labels[drawn[1]]
    kept = drawn[:, differ][:, :pairs]
    return kept[0], kept[1]


def _images(split: Split, index: Tensor) -> Tensor:
    """Images at places, float32 in [0, 1] on the split's device."""
    return split.images[index].to(split.device).float() / 255
