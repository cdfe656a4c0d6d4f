"""Photographs whose shortcut is known: images of CIFAR-10, each class with a tint, border, mark, blur or quality."""

import debias.waiting  # noqa: F401 - before torch

import io

import numpy as np
import torch
from PIL import Image, ImageFilter

from debias.data.sources.cifar import cifar10
from debias.data.split import Split, Task
from debias.randomness import stream

PHOTOGRAPHS = ("clean", "tint", "border", "watermark", "blur", "jpeg", "noise")
SKEW = 0.03  # share that goes against the shortcut
_TINTS = ((1.25, 1.0, 0.75), (0.75, 1.0, 1.25), (0.8, 1.2, 0.8), (1.2, 0.8, 1.2))
_BORDERS = ((200, 30, 30), (30, 30, 200), (30, 200, 30), (220, 220, 30))
# Levels of as many classes as there are.
_BLURS = {2: (0.0, 1.0), 3: (0.0, 0.6, 1.6), 4: (0.0, 0.6, 1.0, 1.6)}
_NOISES = {2: (0, 12), 3: (0, 8, 20), 4: (0, 6, 14, 28)}
_QUALITIES = {2: (90, 10), 3: (90, 30, 10), 4: (95, 50, 20, 6)}


def marked(image: np.ndarray, kind: str, level: int, classes: int) -> np.ndarray:
    """A photograph, uint8 [32, 32, 3], with the shortcut of class `level`."""
    if kind == "tint":
        return np.clip(image * np.array(_TINTS[level]), 0, 255).astype(np.uint8)
    image = image.copy()
    if kind == "border":
        for edge in (image[:2], image[-2:], image[:, :2], image[:, -2:]):
            edge[:] = _BORDERS[level]
    elif kind == "watermark":
        place = np.arange(7)
        sign = np.zeros((7, 7), dtype=bool)
        if level == 0:
            sign[3], sign[:, 3] = True, True
        elif level == 1:
            sign[0], sign[-1], sign[:, 0] = True, True, True
        elif level == 2:
            sign[place, place], sign[place, 6 - place] = True, True
        else:
            sign[::2] = True
        corner = image[-8:-1, -8:-1]
        corner[sign] = (0.2 * corner[sign] + 0.8 * 255).astype(np.uint8)
    elif kind == "blur" and _BLURS[classes][level]:
        return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(_BLURS[classes][level])))
    elif kind == "noise" and _NOISES[classes][level]:
        # Of the image, so that it is the same whenever it is made.
        drawn = np.random.default_rng(int(image.sum(dtype=np.int64))).normal(size=image.shape)
        return np.clip(image + _NOISES[classes][level] * drawn, 0, 255).astype(np.uint8)
    elif kind == "jpeg":
        held = io.BytesIO()
        Image.fromarray(image).save(held, "JPEG", quality=_QUALITIES[classes][level])
        return np.array(Image.open(held))
    return image


def photographs(
    kind: str, classes: int, images: int, seed: int, data_dir: str | None, cache_dir: str, plain: bool = False
) -> Task:
    """Some images of `classes` classes of CIFAR-10, which the seed draws; the test images have no shortcut.

    plain : the same images without their shortcut
    """
    source = cifar10(data_dir, cache_dir, limit=12000, seed=1, progress=False)
    generator = stream(seed, f"{kind} of {classes}")
    drawn = torch.randperm(10, generator=generator)[:classes].tolist()
    found, target = [], []
    for label, name in enumerate(drawn):
        own = np.flatnonzero(np.asarray(source.train_labels) == name)
        for place in torch.randperm(len(own), generator=generator)[: images // classes].tolist():
            against = float(torch.rand(1, generator=generator)) < SKEW
            shift = 1 + int(torch.randint(classes - 1, (1,), generator=generator)) if against else 0
            image = _upright(source.train_images[own[place]])
            found.append(image if plain else marked(image, kind, (label + shift) % classes, classes))
            target.append(label)
    train = Split(_pixels(found), torch.tensor(target), None, torch.arange(len(target)))
    unmarked, truth = [], []
    for label, name in enumerate(drawn):
        own = np.flatnonzero(np.asarray(source.test_labels) == name)
        unmarked += [_upright(source.test_images[place]) for place in own]
        truth += [label] * len(own)
    test = Split(_pixels(unmarked), torch.tensor(truth), None, torch.arange(len(truth)))
    names = tuple(source.names[name] for name in drawn)
    return Task(kind, train, test, None, names, None, f"{kind} {classes} {seed} {images} {SKEW} {plain}")


def _upright(image: object) -> np.ndarray:
    """An image of the source as uint8 [32, 32, 3]."""
    found = np.asarray(image)
    return found.transpose(1, 2, 0) if found.shape[0] == 3 else found


def _pixels(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
