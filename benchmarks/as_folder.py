"""A data set of images as a folder of files with labels.csv: what is for photographs can then be run on it.

Aligned and conflicting are what the training images say, as in any folder of one's own.

python -m benchmarks.as_folder FOLDER with corrupted_cifar10 severity4 skewed1 limit=10000 seed=1
python main.py with own_images data_dir=FOLDER labels=FOLDER/labels.csv features=efficientnet_lite0 erm
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import csv
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from debias.commands.experiment import build
from debias.config import resolve
from debias.data.loading import load_task
from debias.data.mapped import in_memory
from debias.data.split import Task
from debias.endings import status_of
from debias.errors import UserError
from debias.sweeps.plan import configured


def write_task(folder: Path, task: Task, progress: bool = False) -> None:
    """PNG files of every split, and the CSV file that names them, their targets and their biases.

    The folder has its name when all of it is there; until then it is called FOLDER.partial.
    """
    if task.train.bias is None or task.train.vector is not None:
        raise UserError(f"{task.name}: only images with bias labels, and nothing beside them, can be written")
    lines = [("path", "target", "bias", "split")]
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, split in (("train", task.train), ("valid", task.valid), ("test", task.test)):
        if split is None:
            continue
        assert split.bias is not None
        (partial / name).mkdir(parents=True)
        images = in_memory(split.images).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        every = zip(images, split.target, split.bias, strict=True)
        bar = tqdm(every, desc=name, total=len(split), unit="image", disable=None if progress else True)
        for number, (image, target, bias) in enumerate(bar):
            path = f"{name}/{number:06}.png"
            Image.fromarray(image).save(partial / path)
            lines.append((path, task.target_names[int(target)], str(int(bias)), name))
    with (partial / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows(lines)
    partial.rename(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder."""
    return status_of(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.as_folder", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("folder", type=Path, help="is made; must not exist")
    parser.add_argument("words", nargs="+", help="with, and the words of a data set")
    options = parser.parse_args(arguments)
    if options.folder.exists():
        raise UserError(f"{options.folder} is there already; give another folder, or remove it")
    task = load_task(resolve(configured(build(), [word for word in options.words if word != "with"])))
    write_task(options.folder, task, progress=True)
    for name in task.extra_tests:
        print(f"the further test set {name} has no place in labels.csv and is left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
