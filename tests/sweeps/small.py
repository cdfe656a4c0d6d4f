"""A sweep that is run in seconds: 2 methods x 2 skews x 2 seeds on the embedded digits."""

import json
from pathlib import Path

SMALL = [
    "colored_digits", "method=erm,depth_balanced", "skew=0.02,0.05", "seed=1,2", "limit=600", "threads=1",
    "progress=False", "pretrain.epochs=1", "branches.epochs=1", "mine_depth.epochs=1", "bias_balanced.epochs=1",
]  # fmt: skip

# The same for a search: held-out images, and epochs enough to give a trial up.
SEARCH = [
    "colored_digits", "erm", "limit=600", "pretrain.epochs=4", "threads=1", "progress=False", "valid_fraction=0.2",
]  # fmt: skip

# Where a rate is hopeless, which is asked for last: six cells of a grid, in order.
RATES = [0.003, 0.004, 0.005, 0.006, 0.007, 0.0]
HOPELESS = {
    "settings": {"pretrain.learning_rate": {"choice": RATES}},
    "objective": "valid/model/average",
    "trials": 6,
    "sampler": "grid",
}


def runs_in(store: Path) -> list[Path]:
    """The run folders of a store."""
    return [path for path in store.iterdir() if path.name.isdigit()]


def statuses(store: Path) -> list[str]:
    """How each run of a store ended, in order."""
    return [json.loads((store / str(n) / "run.json").read_text())["status"] for n in range(1, 1 + len(runs_in(store)))]
