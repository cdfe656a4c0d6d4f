"""What `diagnose` says of data whose shortcut is known, and of data without one: a row of a record for each.

    python -m benchmarks.diagnosis colored_mnist-1 tint-4 clean-2 --seeds 1-3 --record docs/records/diagnosis.csv
    python -m benchmarks.diagnosis --list

Data: `KIND-SHARE` of MNIST with so many % of conflicting images, `clean_mnist` (any colour on any digit), `grey_mnist`,
and `KIND-CLASSES` of CIFAR-10: photographs of so many classes, each class with its own tint, border, watermark, blur,
JPEG quality or noise in 97 of 100 images, or `clean`. What a row says is right when it names one of `RIGHT`; on clean
data nothing is to be named. Rows that are in the record are not made again.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.photographs import PHOTOGRAPHS, photographs
from benchmarks.rows import append
from debias.config import Defaults, resolve
from debias.data.loading import load_task
from debias.data.mapped import in_memory
from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.split import Split, Task
from debias.diagnosis.look import STAGES_USED, adapted, look
from debias.diagnosis.prepare import prepared
from debias.stages.recipes import STAGES
from debias.training.machine import device_name, prepare_cpu
from debias.training.store import Store
from debias.training.walk import Walk

COLOURS = ("channel_means", "channel_stats", "histogram")
# What names the shortcut of a kind of data rightly; nothing on clean data.
RIGHT: dict[str, tuple[str, ...]] = {
    "colored_mnist": COLOURS,
    "biased_mnist": (*COLOURS, "backdrop", "background"),
    "jitter_mnist": COLOURS,
    "clean_mnist": (),
    "grey_mnist": (),
    "clean": (),
    "tint": COLOURS,
    "border": ("border",),
    "watermark": ("patch_2_2",),
    "blur": ("blur", "detail", "amplitude_high"),
    "jpeg": ("compression",),
    "noise": ("noise",),
}
COLUMNS = ("data", "seed", "images", "verdict", "operator", "right", "property", "beyond", "beyond_low", "effect",
           "effect_low", "tells_low", "accuracy", "seconds", "device")  # fmt: skip


def task_of(data: str, images: int, seed: int, data_dir: str | None, cache_dir: str) -> Task:
    """The task that a name describes."""
    kind, _, rest = data.partition("-")
    if kind in PHOTOGRAPHS:
        return photographs(kind, int(rest), images, seed, data_dir, cache_dir)
    name = {"clean_mnist": "colored_mnist", "grey_mnist": "colored_mnist"}.get(kind, kind)
    given: dict[str, Any] = {"dataset": name, "seed": seed, "data_dir": data_dir, "cache_dir": cache_dir}
    given["limit"] = images  # no more are built than are looked at
    if kind == "jitter_mnist":
        given["variance"] = 0.02
    else:
        given["skew"] = float(rest) / 100 if rest else 0.9
    task = load_task(resolve(Defaults()(fixed=given)))
    if kind == "grey_mnist":
        train = task.train
        grey = Split(in_memory(train.images).amax(1, keepdim=True), train.target, None, train.ids)
        task = Task(kind, grey, grey, None, task.target_names, None, f"{task.key} grey")
    return task


def row_of(data: str, images: int, seed: int, data_dir: str | None, cache_dir: str) -> dict[str, Any]:
    """What diagnose says of it."""
    task = task_of(data, images, seed, data_dir, cache_dir)
    started = time.monotonic()
    small = prepared(task, images, seed)
    given = {
        "dataset": "own_images",
        "features": "none",
        "seed": seed,
        "device": "cpu",
        "threads": 1,
        "progress": False,
    }
    settings = adapted(resolve(Defaults()(fixed=given)), len(small.train))
    with tempfile.TemporaryDirectory() as folder:
        stages = [STAGES[name] for name in STAGES_USED]
        cpu = torch.device("cpu")
        walk = Walk(stages, small, settings, cpu, Store(Path(folder)), say=lambda line: None, progress=False)
        found = look(walk, small, seed)
    kind, verdict = data.partition("-")[0], found.verdict
    tops = [one for one in found.moved if one.operator.name != "mix"]
    first = next((one for one in tops if one.operator.name == verdict.operator), next(iter(tops), None))
    asked = {"operator": verdict.operator}  # all that is known where a network says the same of all images
    if first is not None:
        asked = {
            "operator": first.operator.name, "effect": f"{first.effect:.2f}", "effect_low": f"{first.effect_low:.2f}",
            "tells_low": f"{first.tells_low:.2f}",
        }  # fmt: skip
    told = [one for one in found.properties if one.name in DESCRIPTORS]
    named = (one for one in told if verdict.operator and DESCRIPTORS[one.name].operator == verdict.operator)
    property_ = next(named, told[0])
    right = verdict.operator in RIGHT[kind] if RIGHT[kind] else verdict.kind in ("none", "unlearnt")
    return {
        "data": data, "seed": seed, "images": images, "verdict": verdict.kind,
        **asked,
        "right": int(right), "property": property_.name, "beyond": f"{property_.beyond:.2f}",
        "beyond_low": f"{property_.beyond_low:.2f}",
        "accuracy": f"{100 * found.accuracy.value:.1f}", "seconds": f"{time.monotonic() - started:.0f}",
        "device": device_name(torch.device("cpu")),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--list", action="store_true", help="kinds of data, and what names them rightly")
    parser.add_argument("--seeds", default="1", help="1 or 1-3")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--record", type=Path, default=Path("docs/records/diagnosis.csv"))
    parser.add_argument("--data-dir", default=os.environ.get("DATA_DIR"))
    parser.add_argument("--cache-dir", default=".cache")
    parser.add_argument("--summary", type=Path, help="write a summary of the record into this file at the end")
    options = parser.parse_args(arguments)
    if options.list:
        for kind, names in RIGHT.items():
            print(f"{kind}: {', '.join(names) or 'nothing'}")
        return 0
    prepare_cpu(1)
    first, _, last = options.seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for data in options.data:
            if data.partition("-")[0] not in RIGHT:
                parser.error(f"{data}: there are {', '.join(RIGHT)}")
            if (data, str(seed), str(options.images)) in known(options.record):
                continue
            row = row_of(data, options.images, seed, options.data_dir, options.cache_dir)
            print(" ".join(f"{name}={value}" for name, value in row.items() if name != "device"), flush=True)
            append(options.record, [row], COLUMNS)
    if options.summary is not None:
        summarise(options.record, options.summary)
    return 0


def summarise(record: Path, summary: Path) -> None:
    """Write, for each data set of a record, how many seeds were named rightly, and how far beyond
    chance the property that is named (or the one that tells most) alone tells the class, at the low end."""
    with record.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    by_data: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_data.setdefault(row["data"], []).append(row)
    with summary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["data", "shortcut", "right", "n", "said", "least beyond", "greatest beyond", "seconds"])
        for data in sorted(by_data, key=lambda name: (not RIGHT[name.partition("-")[0]], name)):
            own = by_data[data]
            named = [row["operator"] if row["verdict"] == "named" else row["verdict"] for row in own]
            said = ", ".join(f"{name} {named.count(name)}" for name in dict.fromkeys(sorted(named)))
            beyond = sorted(float(row["beyond_low"]) for row in own)
            seconds = sorted(float(row["seconds"]) for row in own)[len(own) // 2]
            shortcut = "yes" if RIGHT[data.partition("-")[0]] else "none"
            right = sum(int(row["right"]) for row in own)
            writer.writerow([data, shortcut, right, len(own), said, beyond[0], beyond[-1], f"{seconds:.0f}"])


def known(record: Path, keys: Sequence[str] = ("data", "seed", "images")) -> set[tuple[str, ...]]:
    """What the rows of a record are of, by some of its columns."""
    if not record.exists():
        return set()
    with record.open(newline="", encoding="utf-8") as handle:
        return {tuple(row[key] for key in keys) for row in csv.DictReader(handle)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
