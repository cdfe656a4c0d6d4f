"""Kernel launches of a training step, stage by stage; the recorded numbers are in docs/records/launches.csv.

python -m tests.pretended.launches          counts them again and records them
"""

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from debias.stages.recipes import STAGES
from tests.pretended.cases import CASES, run_case, trained_stages
from tests.pretended.seen import ROOT, Seen

RECORD = ROOT / "docs" / "records" / "launches.csv"
CACHE = ROOT / ".cache" / "pretended"
# Steps are counted one by one.
EAGER = ("graph=off",)
OTHERS = {"mine_depth": "a linear layer", "lntl": "convnet"}
COLUMNS = ("stage", "method", "network", "launches a step")


def counted() -> dict[str, str]:
    """Every stage that trains, and the case in which it is counted: the first recipe that has it."""
    trained = [name for name, stage in STAGES.items() if "epochs" in stage.settings]
    return {stage: next(name for name, case in CASES.items() if stage in trained_stages(case)) for stage in trained}


def launches(seen: Seen, stage: str) -> int:
    """Of one step of a stage, done kernel by kernel, without what its first step does once."""
    return round(seen.per_step(stage))


def recorded() -> dict[str, int]:
    """Launches a step by stage, as they are recorded."""
    with RECORD.open(newline="", encoding="utf-8") as handle:
        return {row["stage"]: int(row["launches a step"]) for row in csv.DictReader(handle)}


def main() -> None:
    """Count the launches of all stages and record them."""
    torch.set_num_threads(1)
    rows, found = [], dict[str, tuple[Seen, Mapping[str, Any]]]()
    with tempfile.TemporaryDirectory() as scratch:
        for stage, name in counted().items():
            if name not in found:
                folder = Path(scratch) / name
                _, seen = run_case(CASES[name], folder, CACHE, *EAGER)
                found[name] = seen, json.loads((folder / "runs" / "1" / "config.json").read_text(encoding="utf-8"))
            seen, config = found[name]
            rows.append((stage, name, _network(config, stage), launches(seen, stage)))
    with RECORD.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, lineterminator="\n").writerows([COLUMNS, *rows])
    print(RECORD.read_text(encoding="utf-8"))


def _network(config: Mapping[str, Any], stage: str) -> str:
    """The network that a stage trains by default; a stage without a setting for it goes on with an earlier one's."""
    own = config[stage]
    if "shallow" in own:
        return f"{own['shallow']} and {own['deep']}"
    return str(OTHERS.get(stage) or own.get("network") or config["pretrain"]["network"])


if __name__ == "__main__":
    main()
