"""Whether two versions of the program give the same figures: every recipe trained briefly, every number compared.

    python -m benchmarks.figures record before.json --checkout ../before       every recipe, small, on embedded digits
    python -m benchmarks.figures record after.json
    python -m benchmarks.figures compare before.json after.json

Recorded are all metrics of every epoch and a digest of the final weights, by recipe. A change of structure must leave
each of them, but for seconds, as it was, bit for bit; `compare` names what differs and exits with 1. Metrics that are
new are named, too, but differ from nothing.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from debias.stages.recipes import RECIPES

# The digits on which a recipe is tried, where it is not the first kind.
DATA = {"fisher": "bimodal_digits", "lntl": "jitter_digits", "lntl_pretrained": "jitter_digits", "end": "biased_digits"}
SETTINGS = ("quick", "seed=1", "threads=1", "progress=False")


def record(checkout: Path, recipes: Sequence[str], limit: int, python: str) -> dict[str, Any]:
    """Figures of each recipe, trained by the program in a folder.

    Returns
    -------
    By recipe: `metrics`, a list of values by name, and `weights`, a digest of the file of final weights.

    Raises
    ------
    subprocess.CalledProcessError
        A run that failed; its output is shown.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for recipe in tqdm(recipes, desc="recipes"):
            store = Path(scratch) / "runs" / recipe
            words = [DATA.get(recipe, "colored_digits"), recipe, *SETTINGS, f"limit={limit}"]
            places = [f"store={store}", f"cache_dir={scratch}/cache"]
            command = [python, "main.py", "with", *words, *places]
            ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
            if ran.returncode != 0:
                print(ran.stdout[-2000:], ran.stderr[-2000:], file=sys.stderr)
                ran.check_returncode()
            found[recipe] = _figures(store / "1")
    return found


def _figures(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    weights = _digest(run / "weights.safetensors") if _has_weights(run) else None
    return {
        "metrics": {name: about["values"] for name, about in sorted(metrics.items())},
        "weights": weights,
    }


def _digest(file: Path) -> str:
    """Of the tensors: the texts beside them stand in another order in every file that is written."""
    found = hashlib.sha256()
    for name, value in sorted(load_file(file).items()):
        found.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _has_weights(run: Path) -> bool:
    return (run / "weights.safetensors").is_file()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for every recipe, metric or file of weights that was there before and is not the same now."""
    lines = [f"{recipe}: only in one of them" for recipe in sorted(set(before) ^ set(after))]
    for recipe in sorted(set(before) & set(after)):
        old, new = before[recipe]["metrics"], after[recipe]["metrics"]
        lines += [f"{recipe}: {name} is gone" for name in sorted(set(old) - set(new))]
        kept = sorted(name for name in set(old) & set(new) if not name.endswith("/seconds"))
        lines += [f"{recipe}: {name} differs" for name in kept if old[name] != new[name]]
        if before[recipe]["weights"] != after[recipe]["weights"]:
            lines.append(f"{recipe}: the final weights differ")
    return lines


def additions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for every recipe that has metrics which it did not have."""
    lines = []
    for recipe in sorted(set(before) & set(after)):
        if new := sorted(set(after[recipe]["metrics"]) - set(before[recipe]["metrics"])):
            lines.append(f"{recipe}: new are {', '.join(new)}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Record or compare; 1 where something differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.figures", description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="train every recipe and write its figures")
    recording.add_argument("file", type=Path)
    recording.add_argument("--checkout", type=Path, default=Path(), help="folder of the program (default: here)")
    recording.add_argument("--limit", type=int, default=1200, help="training images (default: 1200)")
    recording.add_argument("--recipes", nargs="+", default=None, help="only these (default: all)")
    comparing = commands.add_parser("compare", help="name what differs between two files")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    given = parser.parse_args(arguments)
    if given.command == "record":
        found = record(given.checkout, given.recipes or list(RECIPES), given.limit, sys.executable)
        given.file.write_text(json.dumps(found, indent=0))
        return 0
    before, after = (json.loads(path.read_text()) for path in (given.before, given.after))
    lines = differences(before, after)
    for line in additions(before, after):
        print(line)
    print("\n".join(lines) or f"{len(before)} recipes: every metric and the final weights are the same")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
