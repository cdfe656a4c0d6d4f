"""Two-modality Colored MNIST: a grey image, and beside it a colour that is tied to the class.

Image and colour are never multiplied: the network is given both (functional Fisher information, Bias-Mitigation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debias.data.cache import Arrays, cached, key_of
from debias.data.generated.colored import assign_bias
from debias.data.kinds import BIMODAL
from debias.data.sources.by_name import Read, on_sources, source_of
from debias.data.sources.idx import Source
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.randomness import stream

VERSION = 1
WHITE = 1.0
COLOUR_NAMES = tuple(f"colour {label}" for label in range(10))
# Two class colours nearer than this are drawn again: no colour could tell these classes apart, or be learnt as a bias.
LEAST_DISTANCE = 0.05


def class_colours(n_classes: int, seed: int) -> Tensor:
    """One colour a class, uniform in the cube, float [n_classes, 3] in [0, 1], drawn again while two nearly agree."""
    generator = stream(seed, "class colours")
    while True:
        colours = torch.rand(n_classes, 3, generator=generator)
        if torch.pdist(colours).min() >= LEAST_DISTANCE:
            return colours


def jittered(mean: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """clamp(mean + std * N(0, I), 0, 1), float [N, 3]."""
    return (mean + std * torch.randn(mean.shape, generator=generator)).clamp_(0, 1)


def data_key(source: Source, skew: float, std: float, seed: int) -> str:
    """Hex digest naming the arrays of `build_arrays` with the same arguments."""
    return key_of(builder="bimodal", version=VERSION, source=source.digest, skew=float(skew), std=float(std), seed=seed)


def build_arrays(source: Source, skew: float, std: float, seed: int) -> Arrays:
    """Give every image of a source a colour near that of its class, but for a share `skew` of the training images.

    Test images get a colour three times: near that of a class drawn at random (`test`), near that of their own
    (`coloured`), and plain white (`grey`), which tells nothing.

    Returns {train,test}_{images,target,ids}, {train,test,coloured}_{bias,vector}, grey_vector and colours.

    Raises
    ------
    UserError
        `skew` outside [0, 1], or a negative `std`.
    """
    if std < 0:
        raise UserError(f"colour_std={std}: the spread of colours cannot be negative")
    n = len(source.names)
    colours = class_colours(n, seed)
    train = torch.from_numpy(assign_bias(source.train_labels, skew, n))
    own = torch.from_numpy(np.array(source.test_labels))
    drawn = torch.randint(0, n, (len(own),), generator=stream(seed, "bias test"))
    arrays: Arrays = {
        "train_images": source.train_images[:, None],
        "train_target": source.train_labels,
        "train_ids": source.train_ids,
        "test_images": source.test_images[:, None],
        "test_target": source.test_labels,
        "test_ids": source.test_ids,
        "colours": colours.numpy(),
        "grey_vector": np.full((len(own), 3), WHITE, dtype=np.float32),
    }
    for part, bias in (("train", train), ("test", drawn), ("coloured", own)):
        arrays[f"{part}_bias"] = bias.numpy()
        arrays[f"{part}_vector"] = jittered(colours[bias], std, stream(seed, f"colour {part}")).numpy()
    return arrays


def as_task(arrays: Arrays, *, name: str, names: tuple[str, ...], key: str) -> Task:
    """Copy the arrays of `build_arrays` into a Task; the tests `coloured` and `grey` share the images of `test`."""
    tensors = {field: torch.from_numpy(np.array(array)) for field, array in arrays.items()}

    def split(part: str, vectors: str, bias: str | None) -> Split:
        images, target, ids = (tensors[f"{part}_{column}"] for column in ("images", "target", "ids"))
        return Split(images, target, None if bias is None else tensors[bias], ids, tensors[vectors])

    return Task(
        name=name,
        train=split("train", "train_vector", "train_bias"),
        test=split("test", "test_vector", "test_bias"),
        valid=None,
        target_names=names,
        bias_names=COLOUR_NAMES,
        key=key,
        bias_colours=tensors["colours"],
        extra_tests={
            "coloured": split("test", "coloured_vector", "coloured_bias"),
            "grey": split("test", "grey_vector", None),
        },
    )


def load(settings: Mapping[str, Any], name: str, read: Read) -> Task:
    """The task that complete settings describe, built where it is not in the cache."""
    if settings["reverse"]:
        raise UserError(f"{name}: the colour is a vector beside the image and cannot be the target; leave out reverse")
    source = source_of(settings, read)
    made = (settings["skew"], settings["colour_std"], settings["seed"])
    key = data_key(source, *made)
    arrays = cached(settings["cache_dir"], name, key, lambda: build_arrays(source, *made))
    return as_task(arrays, name=name, names=source.names, key=key)


SPECS = on_sources(BIMODAL, load, "grey {}, and beside each image a colour tied to its class")
