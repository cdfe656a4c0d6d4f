"""Methods on features of a pretrained network, on photographs whose shortcut is known: a row of a record for each.

    python -m benchmarks.features tint border watermark blur clean --seeds 1-3 --record docs/records/features.csv

Data: CIFAR-10's cats and dogs enlarged to 96 pixels; each class has its own tint, border, watermark or blur in 97 of
100 training images, and each mark is equally frequent in both classes of the test images. Rows of the record that are
there are not made again.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.photographs import SKEW, marked
from benchmarks.rows import append, write
from debias.config import Defaults, resolve
from debias.data.mapped import in_memory
from debias.data.preparation import Preparation
from debias.data.properties.alone import operator_of, telling_alone
from debias.data.properties.looked_at import reduced
from debias.data.sources.cifar import cifar10
from debias.data.split import Split, Task, hold_out
from debias.features.loading import with_features
from debias.features.source import find_source
from debias.models.embedders import KNOWN
from debias.randomness import stream
from debias.stages.recipes import RECIPES, STAGES
from debias.study import candidates
from debias.study.candidates import ELSEWHERE, WHERE_NAMED, held_out_labels, on_moved
from debias.study.choice import PLAIN, Evidence, agreed_cells, chosen_of, faithful, preferred
from debias.training.machine import device_name, prepare_cpu
from debias.training.store import Store
from debias.training.walk import run_stages

NETWORK, SIDE, CLASSES = "efficientnet_lite0", 96, (3, 5)
SCRATCH = "end_cnn_small"
HELD_OUT = 0.2
COLUMNS = ("data", "seed", "images", "method", "chosen", "named", "unbiased", "conflicting", "worst", "held_out",
           "held_out_moved", "telling",
           "first_50", "average_precision", "suspects", "seconds", "embedding", "device")  # fmt: skip


def photographs(kind: str, images: int, seed: int, data_dir: str | None, cache_dir: str) -> Task:
    """`images` for training and half as many for the test, with their marks as bias labels."""
    source = cifar10(data_dir, cache_dir, progress=False)
    splits = {}
    for part, count in (("train", images), ("test", images // 2)):
        generator = stream(seed, f"{kind} {part}")
        labels = np.asarray(getattr(source, f"{part}_labels"))
        pixels, target, bias = [], [], []
        for label, name in enumerate(CLASSES):
            own = np.flatnonzero(labels == name)
            for place in torch.randperm(len(own), generator=generator)[: count // len(CLASSES)].tolist():
                against = float(torch.rand(1, generator=generator)) < (SKEW if part == "train" else 0.5)
                mark = 1 - label if against else label
                image = np.asarray(getattr(source, f"{part}_images")[own[place]])
                image = image.transpose(1, 2, 0) if image.shape[0] == 3 else image
                image = image if kind == "clean" else marked(image, kind, mark, len(CLASSES))
                pixels.append(np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)))
                target.append(label)
                bias.append(mark)
        stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous()
        splits[part] = Split(stacked, torch.tensor(target), torch.tensor(bias), torch.arange(len(target)))
    names = tuple(source.names[name] for name in CLASSES)
    return Task(
        kind, splits["train"], splits["test"], None, names, ("first mark", "second mark"), f"{kind} {seed} {images}",
        preparation=Preparation(SIDE),
    )  # fmt: skip


def rows_of(
    kind: str,
    images: int,
    seed: int,
    views: int,
    data_dir: str | None,
    cache_dir: str,
    further: Sequence[str] = (),
    network: str = NETWORK,
) -> list[dict[str, Any]]:
    """What each method reaches, what its miner finds, and which one is chosen without bias labels, as `study` does."""
    cpu, started = torch.device("cpu"), time.monotonic()
    task = photographs(kind, images, seed, data_dir, cache_dir)
    train, valid = hold_out(task.train, HELD_OUT, seed)
    task = replace(task, train=train, valid=valid, key=f"{task.key} {HELD_OUT}")
    source = find_source(network, data_dir, cache_dir)
    task = with_features(task, source, views, cache_dir, cpu, progress=False)
    embedding, rows = time.monotonic() - started, []
    small = reduced(in_memory(task.train.shown))
    names = [one.told.name for one in telling_alone(small, task.train.target, task.n_targets, seed)]
    order = WHERE_NAMED if names else ELSEWHERE

    def settings_of(method: str) -> dict[str, Any]:
        fixed: dict[str, Any] = {
            "dataset": "own_images", "method": method, "features": network, "seed": seed, "progress": False,
            "data_dir": data_dir, "cache_dir": cache_dir,
        }  # fmt: skip
        if names:
            fixed["mine_property"] = {"property": "+".join(names)}
        return resolve(Defaults()(fixed=fixed))

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        methods = list(dict.fromkeys([*order, *further]))
        found = candidates.train(methods, task, settings_of, cpu, store, lambda line: None, False)
    target = task.valid.target if task.valid is not None else task.train.target
    known = {name: found[name] for name in order if name in found}
    places, cell = agreed_cells(target, held_out_labels(known), task.n_targets)
    real = Evidence({name: (one.held.argmax(1) == target)[places] for name, one in found.items()}, cell)
    moved = None
    if names and task.valid is not None:
        moved = on_moved(found, task, task.valid, operator_of(names), settings_of(PLAIN), cpu, progress=False)
    telling = moved is not None and faithful(real, moved)
    chosen = chosen_of(preferred(tuple(known), telling), real, moved if telling else None) if names else PLAIN
    for method, one in found.items():
        summary = one.outcome.summary
        final = "target" if "target/unbiased/last" in summary else "model"
        mined = {name: summary.get(f"mined/{name}/train") for name in ("first_50", "average_precision", "share")}
        rows.append({
            "data": kind, "seed": seed, "images": images, "method": method, "chosen": int(method == chosen),
            "named": "+".join(names),
            **{name: f"{summary[f'{final}/{name}/last']:.1f}" for name in ("unbiased", "conflicting", "worst")},
            "held_out": f"{100 * real.balanced(method):.1f}",
            "held_out_moved": "" if moved is None else f"{100 * moved.balanced(method):.1f}", "telling": int(telling),
            "first_50": "" if mined["first_50"] is None else f"{mined['first_50']:.0f}",
            "average_precision": "" if mined["average_precision"] is None else f"{mined['average_precision']:.1f}",
            "suspects": "" if mined["share"] is None else f"{mined['share']:.1f}",
            "seconds": f"{one.seconds:.0f}", "embedding": f"{embedding:.0f}", "device": device_name(cpu),
        })  # fmt: skip
    return rows


def from_scratch(kind: str, images: int, seed: int, data_dir: str | None, cache_dir: str) -> dict[str, Any]:
    """What the same miner finds with a small network that is trained on the images themselves."""
    cpu, started = torch.device("cpu"), time.monotonic()
    task = photographs(kind, images, seed, data_dir, cache_dir)
    train, valid = hold_out(task.train, HELD_OUT, seed)
    task = replace(task, train=train, valid=valid, key=f"{task.key} {HELD_OUT}")
    fixed = {
        "dataset": "own_images", "method": "[mine_gce]", "features": "none", "seed": seed, "progress": False,
        "mine_gce": {"network": SCRATCH},
    }  # fmt: skip
    settings = resolve(Defaults()(fixed=fixed))
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_stages([STAGES["mine_gce"]], task, settings, cpu, Store(Path(folder)), progress=False)
    mined = {name: outcome.summary[f"mined/{name}/train"] for name in ("first_50", "average_precision", "share")}
    return {
        "data": kind, "seed": seed, "images": images, "method": f"mine_gce, {SCRATCH} from scratch",
        "first_50": f"{mined['first_50']:.0f}", "average_precision": f"{mined['average_precision']:.1f}",
        "suspects": f"{mined['share']:.1f}", "seconds": f"{time.monotonic() - started:.0f}",
        "device": device_name(cpu),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=str(__doc__).split("\n\n")[0])
    parser.add_argument("data", nargs="+", choices=("tint", "border", "watermark", "blur", "jpeg", "clean"))
    parser.add_argument("--seeds", default="1", help="as in 1-3")
    parser.add_argument("--images", type=int, default=2400)
    parser.add_argument("--methods", nargs="*", default=(), choices=tuple(RECIPES), help="further ones")
    parser.add_argument("--network", default=NETWORK, choices=tuple(KNOWN), help="a record has rows of one")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--scratch", action="store_true", help="only what the miner finds without features")
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--summary", type=Path, help="CSV file for means over seeds")
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"))
    parser.add_argument("--cache-dir", default=".cache")
    options = parser.parse_args(arguments)
    prepare_cpu(1)
    first, _, last = options.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for kind in options.data:
            if (kind, str(seed)) in known(options.record):
                continue
            places = (options.data_dir, options.cache_dir)
            if options.scratch:
                rows = [from_scratch(kind, options.images, seed, *places)]
            else:
                rows = rows_of(kind, options.images, seed, options.views, *places, options.methods, options.network)
            append(options.record, rows, list(rows[0]) if options.scratch else COLUMNS)
    if options.summary is not None:
        write(options.summary, summary_of(options.record))
    return 0


def summary_of(record: Path) -> list[dict[str, str]]:
    """A row for each kind of data: means over seeds of the plain method, of the chosen one, and of each method."""
    with record.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    found = []
    for kind in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == kind]

        def mean(column: str, method: str, rows: list[dict[str, str]] = mine) -> str:
            values = [
                float(row[column])
                for row in rows
                if (row["method"] == method or (method == "chosen" and row["chosen"] == "1")) and row[column]
            ]
            return f"{sum(values) / len(values):.1f}" if values else ""

        gains = [
            float(row["unbiased"]) - float(plain["unbiased"])
            for row in mine
            for plain in mine
            if row["chosen"] == "1" and plain["method"] == PLAIN and plain["seed"] == row["seed"]
        ]
        chosen = Counter(row["method"] for row in mine if row["chosen"] == "1")
        found.append(
            {
                "data": kind,
                "n": str(len(gains)),
                "erm": mean("unbiased", PLAIN),
                "chosen": mean("unbiased", "chosen"),
                "least gain": f"{min(gains):.1f}",
                **{name: mean("unbiased", name) for name in WHERE_NAMED if name != PLAIN},
                "chosen were": ", ".join(f"{name} {count}" for name, count in chosen.most_common()),
                "first 50, gce": mean("first_50", "gce_balanced"),
                "first 50, property": mean("first_50", "property_balanced"),
            }
        )
    return found


def known(record: Path) -> set[tuple[str, str]]:
    """Data and seed of the rows that a record has."""
    if not record.exists():
        return set()
    with record.open(newline="", encoding="utf-8") as handle:
        return {(row["data"], row["seed"]) for row in csv.DictReader(handle)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
