"""Trials that are trained simultaneously, in one process, before each is run: how many, which, and their training."""

import argparse
import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from debias.commands.console import say
from debias.commands.together import train_runs
from debias.config import DebiasExperiment, build_experiment, resolve
from debias.errors import UserError
from debias.features.loading import load_inputs
from debias.redaction import redact
from debias.stages.recipes import stages_of
from debias.sweeps.finished import finished_runs
from debias.sweeps.plan import Plan, Trial, configured
from debias.training.machine import pick_device, prepare_cpu
from debias.training.store import Store
from debias.training.walk import imagenet_weights

# What a step costs for all of them is shared by so many that a 32nd of it is little beside their own products.
MOST = 32


def add_together(parser: argparse.ArgumentParser) -> None:
    """The option --together."""
    parser.add_argument(
        "--together", type=_number, default="auto", metavar="N",
        help="train up to N trials together that differ only in seed and bias, then record each; on (32), off, "
        "or auto (on where a CUDA GPU is used without --engine and --jobs), the default",
    )  # fmt: skip


def spelled_out(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--together` alone as `--together=on`, whatever comes after it."""
    following = [*arguments, ""][1:]
    return [
        "--together=on" if word == "--together" and not _is_number(after) else word
        for word, after in zip(arguments, following, strict=True)
    ]


def with_groups(plan: Plan, chosen: int | str, alone: bool) -> Plan:
    """The plan as the option says.

    chosen : how many at most, or auto
    alone : whether all trials run in this process

    Raises
    ------
    UserError
        Trials have `replicas` as well.
    """
    if isinstance(chosen, int):
        many = next((trial for trial in plan.trials if trial.replicas > 1), None)
        if chosen > 1 and many is not None:
            raise UserError(
                f"--together and replicas={many.replicas} both train trials together; leave out replicas: --together "
                "takes all seeds of the grid"
            )
        return replace(plan, together=chosen)
    if not alone or not torch.cuda.is_available():
        return plan
    on_gpu = [
        trial if trial.device == "auto" or trial.device.startswith("cuda") else replace(trial, alike="")
        for trial in plan.trials
    ]
    return replace(plan, trials=tuple(on_gpu), together=MOST)


def trained_together(trials: Sequence[Trial], most: int) -> list[list[Trial]]:
    """Trials in the order of the first of each group.

    Either those that differ in what `sweeps.alike` allows, up to `most`, in groups of one size as far as that goes; or,
    where `replicas` says so, those that one command takes, whose seeds follow each other.
    """
    groups: list[list[Trial]] = []
    alike: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.apart, trial.seed)):
        last = groups[-1][-1] if groups else trial
        follows = bool(trial.apart) and trial.apart == last.apart and trial.seed == last.seed + 1
        if trial.replicas == 1 and trial.alike and most > 1:
            alike.setdefault(trial.alike, []).append(trial)
        elif groups and follows and len(groups[-1]) < trial.replicas:
            groups[-1].append(trial)
        else:
            groups.append([trial])
    order = {trial.key: place for place, trial in enumerate(trials)}
    for some in alike.values():
        some.sort(key=lambda trial: order[trial.key])
        size = -(-len(some) // -(-len(some) // most))
        groups += [some[start : start + size] for start in range(0, len(some), size)]
    return sorted(groups, key=lambda group: min(order[trial.key] for trial in group))


def whole(group: Sequence[Trial]) -> Trial:
    """A group as what an engine is given."""
    label = f"{len(group)} trials together: {group[0].label} to {group[-1].label}"
    return Trial((), label, f"group-{group[0].key}-{len(group)}")


def train_group(trials: Sequence[Trial], store: Path, record_file: Path | None) -> None:
    """Have the stages of trials in the store, trained simultaneously; one that fails does not stop the others.

    Trials that another process is running, or has run, are left out.
    """
    with contextlib.ExitStack() as held:
        ours = [trial for trial in trials if _held(trial, store, held)]
        done = finished_runs(store, record_file)
        ours = [trial for trial in ours if trial.key not in done]
        if len(ours) < 2:
            return
        every = [resolve(configured(_experiment(), trial.words)) for trial in ours]
        first = every[0]
        prepare_cpu(first["threads"])
        stages, device = stages_of(first["method"], dataset=first["dataset"]), pick_device(first["device"])
        imagenet_weights(stages, first)
        names = [trial.label for trial in ours]
        train_runs(stages, every, names, device, Store(store / "stages"), load_inputs, lambda line: say(redact(line)))
        if device.type == "cuda":
            # Runs that follow look at what is free before they choose where images go.
            torch.cuda.empty_cache()


def _held(trial: Trial, store: Path, held: contextlib.ExitStack) -> bool:
    """Keep others from a trial until `held` is left; False where another process is at it."""
    try:
        held.enter_context(FileLock(store / "sweeps" / f"{trial.key}.lock").acquire(timeout=0))
    except Timeout:
        return False
    return True


@functools.cache
def _experiment() -> DebiasExperiment:
    return build_experiment()


def _number(text: str) -> int | str:
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1, on, off or auto")
    return text if text == "auto" else {"on": MOST, "off": 1}.get(text) or int(text)


def _is_number(text: str) -> bool:
    return text in ("auto", "on", "off") or (text.isdigit() and int(text) > 0)
