"""From arrays of coloured or corrupted images to a `Task`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debias.data.cache import Arrays, key_of
from debias.data.split import Split, Task


def split_of(arrays: Arrays, part: str, reverse: bool = False) -> Split:
    """Copy the arrays {part}_{images,target,bias,ids}. `reverse`: target and bias change places."""
    columns = ("images", "bias", "target", "ids") if reverse else ("images", "target", "bias", "ids")
    return Split(*(torch.from_numpy(np.array(arrays[f"{part}_{column}"])) for column in columns))


def task_of(
    arrays: Arrays,
    *,
    name: str,
    target_names: tuple[str, ...],
    bias_names: tuple[str, ...],
    key: str,
    reverse: bool,
    bias_colours: Tensor | None = None,
    extra: Sequence[str] = (),
    **about: Any,
) -> Task:
    """Copy arrays into a Task: the parts train and test, valid where there is one, and `extra` tests by their names.

    Parameters
    ----------
    target_names, bias_names, bias_colours
        As without `reverse`, which makes the bias the target and the target the bias.
    key
        Of the arrays.
    about
        Further fields of `Task`.
    """
    return Task(
        name=name,
        train=split_of(arrays, "train", reverse),
        test=split_of(arrays, "test", reverse),
        valid=split_of(arrays, "valid", reverse) if "valid_images" in arrays else None,
        target_names=bias_names if reverse else target_names,
        bias_names=target_names if reverse else bias_names,
        key=key_of(arrays=key, reverse=reverse),
        bias_colours=None if reverse else bias_colours,
        **{"extra_tests": {part: split_of(arrays, part, reverse) for part in extra}} | about,
    )
