"""The images that are looked at: some of the training images, small enough for seconds to do."""

from dataclasses import replace

import torch

from debias.data.cache import key_of
from debias.data.mapped import in_memory
from debias.data.properties.looked_at import reduced
from debias.data.split import Split, Task, stratified_choice
from debias.errors import UserError
from debias.randomness import stream

HELD_OUT = 0.2
LEAST = 20  # images of a class: fewer tell nothing about it
_TESTED = 64


def prepared(task: Task, most: int, seed: int) -> Task:
    """At most `most` training images, drawn class by class, a fifth of them held out; the test images stay out of it.

    Images are in memory, as they are: neither normalised nor augmented, and averaged down to 64 pixels where they are
    larger. No bias label comes along.

    Raises
    ------
    UserError
        A single class, or classes of fewer than 20 images: no verdict could be trusted. Data with a second modality.
    """
    if task.vector_size:
        raise UserError(f"{task.name}: diagnose looks at images alone, and these have a second modality beside them")
    train = task.train.without_bias()
    count = torch.bincount(train.target.cpu(), minlength=task.n_targets)
    if task.n_targets < 2:
        raise UserError(f"{task.name} has one class; a shortcut goes with one of several")
    small = [f"{task.target_names[i]} ({n})" for i, n in enumerate(count.tolist()) if n < LEAST]
    if small:
        raise UserError(
            f"{task.name}: too few training images to tell a shortcut from chance; at least {LEAST} of each class are "
            f"needed, and there are fewer of {', '.join(small[:5])}{', ...' if len(small) > 5 else ''}"
        )
    if most < len(train):
        share = most / len(train)
        chosen = stratified_choice(train.target.cpu(), share, stream(seed, "diagnose"))
        # Where classes are very unequal, a rare one keeps what it needs.
        for label in torch.nonzero(count * share < LEAST).flatten().tolist():
            own = torch.nonzero(train.target.cpu() == label).flatten()
            taken = chosen[own]
            chosen[own[~taken][: LEAST - int(taken.sum())]] = True
        train = train.subset(torch.nonzero(chosen).flatten())
    images = reduced(in_memory(train.images))
    # Bias labels are out of reach from here on.
    train = Split(images.cpu(), train.target.cpu(), None, train.ids.cpu())
    held = stratified_choice(train.target, HELD_OUT, stream(seed, "diagnose held out"))
    parts = [train.subset(torch.nonzero(mask).flatten()) for mask in (~held, held)]
    return replace(
        task,
        train=parts[0],
        valid=parts[1],
        # Looked at after every epoch and not used: a few are enough.
        test=parts[1].subset(torch.arange(min(_TESTED, len(parts[1])))),
        extra_tests={},
        bias_names=None,
        bias_colours=None,
        selection="valid",
        mean=None,
        std=None,
        augment=None,
        key=key_of(data=task.key, diagnose=most, seed=seed, version=1),
    )
