"""What `study` says of folders of photographs whose shortcut, wrong labels and copies are known: a row for each.

    python -m benchmarks.study border clean tint+watermark --seeds 1-2 --record docs/records/study.csv
    python -m benchmarks.study border --classes 0,7 --wrong 0.02 --copies 12 --seeds 1 --record docs/records/study.csv

Images are of CIFAR-10, enlarged to 96 pixels, with the shortcut of their class in 97 of 100, in files of a temporary
folder. The program is run on that folder as a user would, and its suspects.csv and page's figures are compared with
what is known.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.photographs import SKEW, marked
from benchmarks.rows import append
from debias import main as program
from debias.data.sources.cifar import cifar10
from debias.randomness import stream
from debias.training.machine import device_name, prepare_cpu

SIDE = 96
COLUMNS = (
    "data", "classes", "seed", "images", "wrong", "verdict", "properties", "chosen", "first_50", "labels_flagged",
    "labels_right", "labels_first_50", "labels_planted", "pairs", "after_embedding", "device",
)  # fmt: skip


class Known(NamedTuple):
    """Of a file: whether it goes against the shortcut, and whether its label is wrong."""

    against: bool
    wrong: bool


def made(
    folder: Path, kinds: Sequence[str], classes: Sequence[int], counts: Sequence[int], seed: int, wrong: float,
    copies: int, data_dir: str | None, cache_dir: str,
) -> dict[str, Known]:  # fmt: skip
    """Write the files, and give what is known of each by its path below the folder.

    A wrong label comes with the mark of the class that it says; copies are cropped to nine tenths and compressed.
    """
    source, draws = cifar10(data_dir, cache_dir, progress=False), stream(seed, "study")
    known: dict[str, Known] = {}
    labels, many = np.asarray(source.train_labels), len(classes)
    for label, name in enumerate(classes):
        own = np.flatnonzero(labels == name)
        for place in torch.randperm(len(own), generator=draws)[: counts[label]].tolist():
            image = np.asarray(source.train_images[own[place]])
            image = image.transpose(1, 2, 0) if image.shape[0] == 3 else image
            bad = float(torch.rand(1, generator=draws)) < wrong
            against = float(torch.rand(1, generator=draws)) < SKEW and not bad and bool(kinds)
            said = (label + 1) % many if bad else label
            for kind in kinds:
                image = marked(image, kind, (said + against) % many, many)
            path = f"{source.names[classes[said]]}/{len(known):05d}.png"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / path)
            known[path] = Known(against, bad)
    originals = list(known)
    for number in range(copies):
        path = originals[int(torch.randint(len(originals), (1,), generator=draws))]
        copy = f"{Path(path).parent}/copy{number:03d}.jpg"
        with Image.open(folder / path) as original:
            original.resize((110, 110)).crop((5, 5, 105, 105)).save(folder / copy, quality=70)
        known[copy] = known[path]
    return known


def row_of(data: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """What the study of one folder says, beside what is known."""
    kinds = [kind for kind in data.split("+") if kind != "clean"]
    classes = [int(name) for name in options.classes.split(",")]
    counts = [int(count) for count in options.images.split(",")]
    counts = counts * len(classes) if len(counts) == 1 else counts
    with tempfile.TemporaryDirectory() as temporary:
        folder, store = Path(temporary) / "photos", Path(temporary) / "runs"
        known = made(
            folder, kinds, classes, counts, seed, options.wrong, options.copies, options.data_dir, options.cache_dir
        )  # fmt: skip
        words = (
            "study", "with", "own_images", f"data_dir={folder}", f"image_size={SIDE}", f"seed={seed}",
            f"store={store}", f"cache_dir={options.cache_dir}", "progress=False",
        )  # fmt: skip
        if program.main(words) != 0:
            raise SystemExit(f"study of {data} failed")
        found = json.loads((store / "1" / "info.json").read_text(encoding="utf-8"))["study"]
        with (store / "1" / "suspects.csv").open(newline="", encoding="utf-8") as handle:
            table = list(csv.DictReader(handle))
    rows = [(row, known[Path(row["path"]).relative_to(folder).as_posix()]) for row in table]
    suspects = [each for row, each in rows if row.get("signal") != "wrong label"][:50]
    surest = sorted(rows, key=lambda pair: float(pair[0].get("label_fit", 1)))
    flagged = [each for row, each in surest if row.get("signal") == "wrong label"]
    planted = sum(each.wrong for _, each in rows)
    seconds = {part: value for part, value in found["seconds"].items() if part != "images and features"}
    return {
        "data": data, "classes": options.classes, "seed": seed, "images": sum(counts), "wrong": options.wrong,
        "verdict": found["headline"], "properties": "+".join(found["properties"]), "chosen": found["chosen"],
        "first_50": f"{100 * sum(each.against for each in suspects) / max(1, len(suspects)):.0f}" if kinds else "",
        "labels_flagged": len(flagged), "labels_right": sum(each.wrong for each in flagged),
        "labels_first_50": sum(each.wrong for each in flagged[:50]), "labels_planted": planted,
        "pairs": found["near_duplicates"], "after_embedding": f"{sum(seconds.values()):.0f}",
        "device": device_name(torch.device("cpu")),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("data", nargs="+", help="clean, or kinds of shortcuts with + between them")
    parser.add_argument("--classes", default="3,5", help="of CIFAR-10, by number")
    parser.add_argument("--images", default="1200", help="of each class: a number, or one for each")
    parser.add_argument("--seeds", default="1", help="as in 1-3")
    parser.add_argument("--wrong", type=float, default=0.0, help="share of wrong labels")
    parser.add_argument("--copies", type=int, default=0, help="near duplicates")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"))
    parser.add_argument("--cache-dir", default=".cache")
    options = parser.parse_args(arguments)
    prepare_cpu(None)
    first, _, last = options.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for data in options.data:
            started, row = time.monotonic(), row_of(data, seed, options)
            print(f"{data} {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr)
            append(options.record, [row], COLUMNS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
