"""A picture of the twenty corruptions at all levels: `python -m debias.tracking.pictures.corruptions FILE.png`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from debias.data.generated.corruptions import CORRUPTIONS, LEVELS
from debias.data.sources.cifar import cifar10
from debias.errors import UserError
from debias.randomness import stream
from debias.tracking.pictures.plots import plot_images


def main(arguments: Sequence[str]) -> int:
    """One CIFAR-10 test image a row, under one corruption: as it is, then levels 1 to 5 (severity0 to severity4)."""
    parser = argparse.ArgumentParser(prog="python -m debias.tracking.pictures.corruptions", description=main.__doc__)
    parser.add_argument("path", type=Path, metavar="FILE.png")
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"), help="folder that has CIFAR-10")
    parser.add_argument("--cache-dir", default=".cache")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        source = cifar10(options.data_dir, options.cache_dir, limit=6 * len(CORRUPTIONS), seed=options.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.path.parent.mkdir(parents=True, exist_ok=True)
    print(picture(torch.from_numpy(source.test_images.copy()), options.seed, options.path))
    return 0


def picture(images: Tensor, seed: int, path: Path) -> Path:
    """Draw uint8 [20, 3, 32, 32] images, one for each corruption in the order of `CORRUPTIONS`; returns `path`."""
    tiles, captions = [], []
    for image, (name, corruption) in zip(images, CORRUPTIONS.items(), strict=True):
        tiles.append(image[None])
        captions.append(name)
        for level in range(1, LEVELS + 1):
            tiles.append(corruption(image[None], level, stream(seed, f"picture {name}")))
            captions.append(f"level {level}")
    title = "The corruptions of Corrupted CIFAR-10"
    return plot_images(torch.cat(tiles), captions, title=title, path=path, columns=LEVELS + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
