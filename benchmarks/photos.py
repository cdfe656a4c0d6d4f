"""Speed of decoding image files and of making batches, beside torchvision's DataLoader on the same files."""

import debias.waiting  # noqa: F401 - before torch

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from debias.data.batches import Batches
from debias.data.mapped import MappedImages
from debias.data.photos.archives import open_files
from debias.data.photos.decode import cores, fill
from debias.data.photos.folders import IMAGENET
from debias.data.photos.imagecache import decoded_images
from debias.data.preparation import Preparation
from debias.data.split import Split

# Form of the files and their preparation: width, height, ending, side of the prepared image, augmentation, and the
# same as torchvision transforms.
FORMS = {
    "faces as BFFHQ, 128": (128, 128, "png", 128, "flip", [transforms.RandomHorizontalFlip()]),
    "faces as BFFHQ, 224": (
        128, 128, "png", 224, "crop_flip",
        [transforms.Resize(224), transforms.RandomCrop(224, 4), transforms.RandomHorizontalFlip()],
    ),
    "faces as CelebA, 224": (
        178, 218, "jpg", 224, "portrait_crop_flip",
        [transforms.RandomResizedCrop(224, (0.7, 1.0)), transforms.RandomHorizontalFlip()],
    ),
    "photographs, 224": (
        640, 426, "jpg", 224, "resized_crop_flip",
        [transforms.RandomResizedCrop(224, (0.7, 1.0)), transforms.RandomHorizontalFlip()],
    ),
}  # fmt: skip
BATCH = 64
_FILES = 512


def decoding(options: argparse.Namespace) -> dict[str, float]:
    """Images a second from files to uint8 at the training resolution, on all threads."""
    figures = {}
    for name, (width, height, ending, size, _, _) in FORMS.items():
        with tempfile.TemporaryDirectory() as folder:
            write_photographs(Path(folder), min(options.images, _FILES), (width, height), ending)
            files = open_files(Path(folder))
            out = np.zeros((len(files.names), 3, size, size), dtype=np.uint8)
            seconds = [
                _timed(lambda: fill(files, files.names, Preparation(size), out, options.threads))  # noqa: B023
                for _ in range(options.repeats)
            ]
            figures[name] = len(files.names) / statistics.median(seconds)
    return figures


def batches(options: argparse.Namespace) -> dict[str, float]:
    """Augmented, normalised batches a second in images: ours from memory and from the cache, a DataLoader's, the ratio.

    The DataLoader has a worker for each thread that we have. It and ours take turns, and the medians are compared.
    """
    figures: dict[str, float] = {}
    workers = options.threads or cores()
    for name, (width, height, ending, size, augment, steps) in FORMS.items():
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
            root, count = Path(folder), min(options.images, _FILES)
            write_photographs(root, count, (width, height), ending)
            loader = DataLoader(
                ImageFolder(
                    str(root), transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*IMAGENET)])
                ),
                BATCH,
                shuffle=True,
                num_workers=workers,
                persistent_workers=True,
            )
            files = open_files(root)
            images = decoded_images(files, files.names, Preparation(size), cache, "benchmark", progress=False).images
            target, ids = torch.zeros(count, dtype=torch.int64), torch.arange(count)
            ours = {}
            for where, streaming in (("memory", "never"), ("cache", "always")):
                split = Split(MappedImages([images], ids, streaming=streaming), target, None, ids).to("cpu")
                ours[where] = Batches(split, BATCH, mean=IMAGENET[0], std=IMAGENET[1], augment=augment)
            passes: dict[str, Callable[[], object]] = {
                "DataLoader": lambda: sum(len(batch[0]) for batch in loader),  # noqa: B023
                "memory": lambda: sum(len(batch.images) for batch in ours["memory"].epoch()),  # noqa: B023
                "cache": lambda: sum(len(batch.images) for batch in ours["cache"].epoch()),  # noqa: B023
            }
            seconds: dict[str, list[float]] = {where: [] for where in passes}
            # The first pass starts the workers and is not counted.
            for number in range(options.repeats + 1):
                for where, run in passes.items():
                    spent = _timed(run)
                    if number:
                        seconds[where].append(spent)
            rates = {where: count / statistics.median(spent) for where, spent in seconds.items()}
            figures |= {f"{name}: {where}": rate for where, rate in rates.items()}
            figures[f"{name}: memory / DataLoader"] = rates["memory"] / rates["DataLoader"]
            figures[f"{name}: cache / DataLoader"] = rates["cache"] / rates["DataLoader"]
    return figures


def write_photographs(folder: Path, count: int, size: tuple[int, int], ending: str) -> None:
    """Pieces of the two photographs that come with scikit-learn, resized, in two class folders."""
    random = np.random.default_rng(0)
    originals = [Image.fromarray(image) for image in load_sample_images().images]
    for number in range(count):
        original = originals[number % 2]
        side = random.uniform(0.5, 1.0)
        wide, tall = original.width * side, original.height * side
        left, top = random.uniform(0, original.width - wide), random.uniform(0, original.height - tall)
        path = folder / str(number % 2) / f"{number}.{ending}"
        path.parent.mkdir(exist_ok=True)
        piece = original.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + wide, top + tall))
        # A quality is for JPEG; PNG passes over it.
        piece.save(path, quality=95)


def _timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
