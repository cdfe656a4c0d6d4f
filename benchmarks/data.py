"""Speed of making and moving data: images a second.

    python -m benchmarks.data                                     every section
    python -m benchmarks.data corruptions --threads 1 --json      one of them

corruptions   each of the twenty corruptions at its strongest level, and building both types of Corrupted CIFAR-10 whole
decoding      image files into the cache of decoded images
batches       from the cache to batches for training, beside torchvision's DataLoader with transforms of each image

A section is a function in `SECTIONS`: it takes the options and gives figures by name. Images are noise of the size of
the real ones, unless the data set's files are in --data-dir.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import photos
from debias.data.generated.corrupted import CHUNK, build_arrays
from debias.data.generated.corruptions import CORRUPTIONS, LEVELS
from debias.data.sources.cifar import cifar10
from debias.data.sources.cifar_files import CLASSES
from debias.data.sources.idx import Source
from debias.errors import UserError
from debias.randomness import stream
from debias.training.machine import prepare_cpu

Figures = dict[str, float]


class Section(NamedTuple):
    """What a section measures, in a line, and how."""

    title: str
    measure: Callable[[argparse.Namespace], Figures]


def corruptions(options: argparse.Namespace) -> Figures:
    """Images a second of each corruption on one thread, and of whole builds on all threads."""
    source = cifar_like(options)
    images = torch.from_numpy(np.array(source.train_images[: options.images]))
    figures: Figures = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, corruption in CORRUPTIONS.items():
        generator = stream(0, name)
        # Tables and matrices are made once.
        corruption(images[:CHUNK], LEVELS, generator)
        seconds = [
            timed(lambda: [corruption(part, LEVELS, generator) for part in images.split(CHUNK)])  # noqa: B023
            for _ in range(options.repeats)
        ]
        figures[name] = len(images) / statistics.median(seconds)
    torch.set_num_threads(threads)
    count = len(source.train_labels) + len(source.test_labels)
    for kind in (0, 1):
        seconds = [timed(lambda: build_arrays(source, kind, 0.05, 4, seed=1))]  # noqa: B023
        figures[f"type {kind}, {count} images, {threads} threads"] = count / seconds[0]
    return figures


SECTIONS: dict[str, Section] = {
    "corruptions": Section("corruptions at level 5 on one thread, then whole builds; images/s", corruptions),
    "decoding": Section("files to uint8 at training resolution, all threads; images/s", photos.decoding),
    "batches": Section("uint8 to augmented, normalised batches, and a DataLoader's; images/s", photos.batches),
}


def cifar_like(options: argparse.Namespace) -> Source:
    """CIFAR-10 where its files are, else images of noise, which take as long; a sixth of them are test images."""
    count = options.images
    if options.data_dir is not None:
        return cifar10(options.data_dir, options.cache_dir, limit=None if count >= 50_000 else max(count, 6), seed=1)
    images = np.random.default_rng(0).integers(0, 256, (count + max(1, count // 6), 3, 32, 32), dtype=np.uint8)
    train, test = images[:count], images[count:]
    ids = np.arange(len(images))
    labels = ids % len(CLASSES)
    return Source(train, labels[:count], test, labels[count:], CLASSES, ids[:count], ids[: len(test)])


def timed(function: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def table(title: str, figures: Mapping[str, float]) -> str:
    """A section as lines of text."""
    width = max(map(len, figures), default=0)
    return "\n".join(
        [
            title,
            *(
                f"  {name:{width}}  {value:12,.{0 if value >= 100 or value == int(value) else 1}f}"
                for name, value in figures.items()
            ),
        ]
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.data", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; all when not given")
    parser.add_argument("--images", type=int, default=6000, help="images that are measured on")
    parser.add_argument("--repeats", type=int, default=3, help="times each is measured; the median counts")
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"), help="folder with the files of CIFAR-10")
    parser.add_argument("--cache-dir", default=".cache")
    parser.add_argument("--threads", type=int, help="CPU threads; left to torch when not given")
    parser.add_argument("--json", action="store_true", help="print all figures as one JSON object")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section is called {unknown[0]}; there are {', '.join(SECTIONS)}")
    if min(options.images, options.repeats, 1 if options.threads is None else options.threads) < 1:
        parser.error("at least one image, one repeat and one thread are needed")
    prepare_cpu(options.threads)
    found: dict[str, Figures] = {}
    try:
        for name in options.sections or SECTIONS:
            found[name] = SECTIONS[name].measure(options)
            if not options.json:
                print(table(f"{name}: {SECTIONS[name].title}", found[name]), flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
