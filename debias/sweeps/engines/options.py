"""The options of a command line that say what runs the trials."""

import argparse
import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.settings import nearest
from debias.sweeps.engines.base import Engine
from debias.sweeps.engines.here import Here

ENGINES = ("here", "ray", "slurm")
# Which engines an option is for.
BELONGS = {"jobs": ("here", "slurm"), "address": ("ray",), "cpus": ("ray",), "gpus": ("ray",), "slurm": ("slurm",)}
QUEUED = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """--engine, and what belongs to one."""
    group = parser.add_argument_group("what runs the trials")
    group.add_argument("--engine", default="here", help="here (this machine, the default), ray or slurm")
    group.add_argument(
        "--jobs", type=_count, help=f"processes on this machine (default: this one); with slurm, jobs queued ({QUEUED})"
    )
    group.add_argument("--address", help="with ray: host:port of a running cluster, or auto; else Ray on this machine")
    group.add_argument("--cpus", type=_share, help="with ray: CPUs of a trial (1)")
    group.add_argument(
        "--gpus", type=_share,
        help="with ray: GPUs of a trial, as in 0.25 for four on one (1 where the cluster has any, unless device=cpu)",
    )  # fmt: skip
    group.add_argument(
        "--slurm", action="append", metavar="KEY=VALUE",
        help="with slurm: timeout_min, mem_gb, gpus_per_node, slurm_partition …, as submitit calls them; "
        "cluster=local runs the jobs on this machine",
    )  # fmt: skip


def check_engine_options(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    UserError
        Which ones.
    """
    if options.engine not in ENGINES:
        raise UserError(
            f"--engine {options.engine}: one of {', '.join(ENGINES)}{nearest(str(options.engine), ENGINES)}"
        )
    for name, engines in BELONGS.items():
        if getattr(options, name) is not None and options.engine not in engines:
            raise UserError(f"--{name} belongs to --engine {' or '.join(engines)}, not to {options.engine}")
    if options.address is not None and not re.fullmatch(r"auto|[^\s:/]+:\d+", options.address):
        raise UserError(f"--address {options.address}: write auto, or host:port as `ray start --head` shows it")
    if options.cpus == 0 and not options.gpus:
        raise UserError("--cpus 0: a trial takes some CPUs, or --gpus")
    if options.gpus is not None and options.gpus > 1 and options.gpus != int(options.gpus):
        raise UserError(f"--gpus {options.gpus:g}: above 1, a whole number")
    _parameters(options.slurm or [])


def make_engine(options: argparse.Namespace, store: Path, words: Sequence[Sequence[str]]) -> Engine:
    """The engine that checked options ask for; what it needs is started with the first trial.

    words : of the trials, which say whether all of them stay away from GPUs
    """
    if options.engine == "ray":
        from debias.sweeps.engines.on_ray import OnRay

        gpus = options.gpus
        if gpus is None and all(_on_cpu(trial) for trial in words):
            gpus = 0
        return OnRay(options.address, 1 if options.cpus is None else options.cpus, gpus)
    if options.engine == "slurm":
        from debias.sweeps.engines.slurm import Slurm

        return Slurm(store / "sweeps" / "slurm", options.jobs or QUEUED, _parameters(options.slurm or []))
    if (options.jobs or 1) > 1:
        from debias.sweeps.engines.processes import Processes

        return Processes(options.jobs)
    return Here()


def _on_cpu(words: Sequence[str]) -> bool:
    devices = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("device=")]
    return devices[-1:] == ["cpu"]


def _parameters(pairs: Sequence[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UserError(f"--slurm {pair}: write KEY=VALUE, as in timeout_min=600")
        try:
            parameters[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parameters[name] = text
    return parameters


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return float(text)
