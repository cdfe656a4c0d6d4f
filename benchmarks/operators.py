"""What training with a moved property reaches on photographs whose shortcut is known: a row of a record for each.

    python -m benchmarks.operators tint-2 border-4 --seeds 1-5 --record docs/records/operators.csv

Data as `python -m benchmarks.diagnosis` has them, 97 of 100 images with the shortcut; the test images are those of
CIFAR-10's test set, without any. Ways: `erm`; `clean`, which is erm on images without the shortcut (what the data
allow); `gce_transfer`, which chooses an operator without labels; the same augmentation without anything mined:
`random`, an operator that the seed draws, and `right`, the one that the shortcut was made of. All train the same
network for the same number of epochs: `accuracy` and `worst` are of the last one, `mean` and `mean_worst` of the mean
of the weights over the last quarter, which selects nothing either. Rows that are in the record are not made again.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.diagnosis import RIGHT, known
from benchmarks.photographs import PHOTOGRAPHS, photographs
from benchmarks.rows import append, write
from debias.config import Defaults, resolve
from debias.data.split import Task
from debias.stages.recipes import RECIPES, STAGES
from debias.training.machine import device_name, prepare_cpu
from debias.training.store import Store
from debias.training.walk import Walk

WAYS = {"erm": "erm", "clean": "erm", "gce_transfer": "gce_transfer", "random": "erm_operator", "right": "erm_operator"}
COLUMNS = ("data", "seed", "images", "way", "operator", "accuracy", "worst", "mean", "mean_worst", "seconds", "device")
NETWORK = "end_cnn_small"


def row_of(data: str, way: str, images: int, epochs: int, seed: int, places: tuple[str | None, str]) -> dict[str, Any]:
    """Accuracy of one way on the test images without shortcut, as a mean over classes and of the worst class."""
    kind, _, classes = data.partition("-")
    task = photographs(kind, int(classes), images, seed, *places, plain=way == "clean")
    started = time.monotonic()
    outcome = trained(task, way, RIGHT[kind], epochs, seed)
    last = list(outcome.stages.values())[-1].report
    return {
        "data": data, "seed": seed, "images": images, "way": way, "operator": last.augmentation or "",
        "accuracy": f"{last.summary['model/balanced/last']:.2f}",
        "worst": f"{last.summary['model/worst_class/last']:.2f}",
        "mean": f"{last.summary['model/balanced/mean']:.2f}",
        "mean_worst": f"{last.summary['model/worst_class/mean']:.2f}",
        "seconds": f"{time.monotonic() - started:.0f}", "device": device_name(torch.device("cpu")),
    }  # fmt: skip


def trained(
    task: Task, way: str, right: Sequence[str], epochs: int, seed: int, say: Callable[[str], None] = print
) -> Any:
    """The outcome of a way's stages on a task."""
    method = WAYS[way]
    given = {
        "dataset": "own_images",
        "features": "none",
        "method": method,
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "progress": False,
    }
    settings = resolve(Defaults()(fixed=given))
    stages = [STAGES[name] for name in RECIPES[method].stages_on("own_images")]
    own = stages[-1].name
    settings[own] = {**settings[own], "network": NETWORK, "epochs": epochs, "steps": 0, "batch_size": 64}
    if way == "right":
        settings[own]["operator"] = right[0]
    if "mine_gce" in settings and method == "gce_transfer":
        settings["mine_gce"] = {**settings["mine_gce"], "network": NETWORK}
    with tempfile.TemporaryDirectory() as folder:
        walk = Walk(
            stages, replace(task, augment=None), settings, torch.device("cpu"), Store(Path(folder)),
            say=say, progress=False,
        )  # fmt: skip
        for stage in stages:
            walk.advance(stage)
    return walk.outcome


def main(arguments: Sequence[str]) -> int:
    """Make the rows that the record does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="KIND-CLASSES")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", default="1", help="1 or 1-3")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--record", type=Path, default=Path("docs/records/operators.csv"))
    parser.add_argument("--summary", type=Path, help="CSV file for means over seeds of `mean`")
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"))
    parser.add_argument("--cache-dir", default=".cache")
    options = parser.parse_args(arguments)
    prepare_cpu(1)
    first, _, last = options.seeds.partition("-")
    keys = ("data", "seed", "images", "way")
    for seed in range(int(first), int(last or first) + 1):
        for data in options.data:
            if data.partition("-")[0] not in PHOTOGRAPHS:
                parser.error(f"{data}: there are {', '.join(PHOTOGRAPHS)}")
            for way in options.ways:
                if (data, str(seed), str(options.images), way) in known(options.record, keys):
                    continue
                places = (options.data_dir, options.cache_dir)
                row = row_of(data, way, options.images, options.epochs, seed, places)
                print(" ".join(f"{name}={value}" for name, value in row.items() if name != "device"), flush=True)
                append(options.record, [row], COLUMNS)
    if options.summary is not None:
        write(options.summary, summary_of(options.record))
    return 0


def summary_of(record: Path) -> list[dict[str, str]]:
    """A row for each kind of data: over seeds the mean of `mean` of every way, and what choosing gains over erm."""
    with record.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found = []
    for data in dict.fromkeys(row["data"] for row in rows):
        by_way = {
            way: {row["seed"]: float(row["mean"]) for row in rows if row["data"] == data and row["way"] == way}
            for way in WAYS
        }
        gains = [by_way["gce_transfer"][seed] - value for seed, value in by_way["erm"].items()]
        operators = Counter(row["operator"] for row in rows if row["data"] == data and row["way"] == "gce_transfer")
        found.append(
            {
                "data": data,
                "n": str(len(gains)),
                **{way: f"{sum(given.values()) / len(given):.1f}" for way, given in by_way.items() if given},
                "gains": ", ".join(f"{gain:.1f}" for gain in gains),
                "operators": ", ".join(f"{name or 'none'} {count}" for name, count in operators.most_common()),
            }
        )
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
