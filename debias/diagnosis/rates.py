"""What a network answers when one property of an image is replaced by another image's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from debias.data.operators import Operator
from debias.data.properties.intervals import Share, beyond

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Positions of images x and of their donors z, int64 [n] each.

    z looks to the network like another class than x does; `same` is another donor for x, which looks like x's class
    and is used for the first half of them.
    """

    x: Tensor
    z: Tensor
    same: Tensor


@dataclass(frozen=True)
class Moved:
    """What one operator does.

    transferred, stays : share of pairs whose answer on T(x, z) is the donor's, or is still that of x
    chance : share for which it would be the donor's if all that mattered were that x is disturbed: measured with donors
        that look like x's own class
    told : share for which the answer is the donor's target, and the same by chance
    kept : share for which the network that reads the target answers as on x; None without such a network
    change : mean absolute change of a pixel
    to_class : transferred to each class, by donors of that class
    """

    operator: Operator
    transferred: Share
    stays: Share
    chance: Share
    told: Share
    told_chance: Share
    kept: Share | None
    change: float
    to_class: tuple[Share, ...]

    @property
    def effect(self) -> float:
        """Transferred, beyond chance."""
        return beyond(self.transferred.value, self.chance.value)

    @property
    def effect_low(self) -> float:
        """The same at the unfavourable ends of both intervals."""
        return beyond(self.transferred.low, self.chance.high)

    @property
    def tells(self) -> float:
        """How far the property alone, laid on images of other classes, tells the target: beyond chance."""
        return beyond(self.told.value, self.told_chance.value)

    @property
    def tells_low(self) -> float:
        """The same at the unfavourable ends of both intervals."""
        return beyond(self.told.low, self.told_chance.high)


def draw_pairs(answers: Tensor, count: int, generator: torch.Generator) -> Pairs | None:
    """Up to `count` pairs of images whose answers differ, drawn at random; None where all answers are the same.

    answers : int64 [N] on the CPU, what the network says of every image. Classes of answers are drawn alike, so that
        frequent ones do not decide.
    """
    seen = answers.unique()
    if len(seen) < 2:
        return None
    members = [torch.nonzero(answers == label).flatten() for label in seen]
    first = torch.randint(len(seen), (count,), generator=generator)
    step = torch.randint(1, len(seen), (count,), generator=generator)
    second = (first + step) % len(seen)

    def draw(classes: Tensor) -> Tensor:
        u = torch.rand(count, generator=generator, dtype=torch.float64)
        return torch.stack([members[c][int(u[i] * len(members[c]))] for i, c in enumerate(classes.tolist())])

    return Pairs(draw(first), draw(second), draw(first))


@torch.no_grad()
def measure(
    operators: Iterable[Operator],
    network: Network,
    images: Tensor,
    targets: Tensor,
    answers: Tensor,
    pairs: Pairs,
    classes: int,
    reader: Network | None = None,
    bar: Callable[[int], object] = lambda done: None,
) -> list[Moved]:
    """Apply every operator to every pair and ask.

    Parameters
    ----------
    operators
        In the order of the result.
    network, reader
        Images float [B, C, H, W] in [0, 1] to logits [B, classes]; the one with the shortcut, and one that reads the
        target.
    images
        uint8 [N, C, H, W].
    targets, answers
        int64 [N]: the class of every image, and what `network` says of it.
    pairs
        As drawn from `answers`.
    classes
        How many there are.
    bar
        Told after each operator.
    """
    x, z, w = (images[place].float() / 255 for place in (pairs.x, pairs.z, pairs.same))
    own, other = answers[pairs.x], answers[pairs.z]
    # Which label "the donor's" is, were the donor another one: of those that pairs with such an x have.
    odds = torch.zeros(classes, classes)
    odds.index_put_((own, other), torch.ones(len(own)), accumulate=True)
    odds /= odds.sum(1, keepdim=True).clamp(min=1)
    target = targets[pairs.z]
    target_odds = torch.zeros(classes, classes)
    target_odds.index_put_((own, target), torch.ones(len(own)), accumulate=True)
    target_odds /= target_odds.sum(1, keepdim=True).clamp(min=1)
    usual = own if reader is None else reader(x).argmax(1)
    n, controls = len(own), -(-len(own) // 2)
    found = []
    for operator in operators:
        changed = operator.apply(x, z)
        said = network(changed).argmax(1)
        beside = network(operator.apply(x[:controls], w[:controls])).argmax(1)
        hits = said == other
        found.append(
            Moved(
                operator,
                transferred=Share(float(hits.sum()), n),
                stays=Share(float(torch.eq(said, own).sum()), n),
                chance=Share(float(odds[own[:controls], beside].sum()), controls),
                told=Share(float(torch.eq(said, target).sum()), n),
                told_chance=Share(float(target_odds[own[:controls], beside].sum()), controls),
                kept=None if reader is None else _kept(reader, changed[:controls], usual[:controls]),
                change=float((changed - x).abs().mean()),
                to_class=tuple(
                    Share(float(hits[other == label].sum()), int(torch.eq(other, label).sum()))
                    for label in range(classes)
                ),
            )
        )
        bar(1)
    return found


def _kept(reader: Network, changed: Tensor, usual: Tensor) -> Share:
    return Share(float(torch.eq(reader(changed).argmax(1), usual).sum()), len(changed))
