"""Settings that were changed and that a run does not read: it would give the same figures without them."""

from collections.abc import Mapping, Sequence
from typing import Any

from debias.catalogue import RUN_SETTINGS, concerns, default_for
from debias.commands.console import say
from debias.config import NAMED_CONFIGS
from debias.features.choice import last_block_of
from debias.stages.recipes import STAGES
from debias.training.stage import Stage

# Read by some commands alone.
OF_COMMANDS = {
    "folder": ("predict",),
    "output": ("predict", "export"),
    "checkpoint": ("evaluate", "probe", "predict", "export"),
    "probe_on": ("probe",),
}
# A protocol is for all methods: what it sets of others is nothing that the user asked for.
_OF_PROTOCOLS: Mapping[str, Mapping[str, Any]] = NAMED_CONFIGS["protocol"]["reference"]


def say_unused(settings: Mapping[str, Any], stages: Sequence[Stage], command: str) -> None:
    """A line that names changed settings which the run does not use; nothing where there are none.

    stages : that are trained; none for other commands. command : what is run, such as train or evaluate
    """
    if unused := unused_settings(settings, stages, command):
        run = f"{settings['method']} on {settings['dataset']}" if stages else f"{command} on {settings['dataset']}"
        said = ", ".join(unused[:10]) + (f" and {len(unused) - 10} more" if len(unused) > 10 else "")
        say(f"not used by {run}: {said}")


def unused_settings(settings: Mapping[str, Any], stages: Sequence[Stage], command: str) -> list[str]:
    """Changed settings, as NAME=VALUE, that neither the data set, nor a stage, nor the command reads."""
    method, dataset = settings["method"], settings["dataset"]
    budget = {
        "quick": settings["quick"],
        "features": settings["features"] != "none",
        "last_block": last_block_of(settings["features"]),
    }
    idle = [name for name in RUN_SETTINGS if not concerns(name, method, dataset)]
    idle += [name for name, commands in OF_COMMANDS.items() if command not in commands]
    idle += [] if stages else ["replicas"]
    found = [
        f"{name}={settings[name]}" for name in idle if settings[name] != default_for(name, method, dataset, **budget)
    ]
    for stage in STAGES.values():
        for name in () if stage in stages else stage.settings:
            value = settings[stage.name][name]
            protocol = _OF_PROTOCOLS.get(stage.name, {}).get(name)
            if value not in (default_for(f"{stage.name}.{name}", method, dataset, **budget), protocol):
                found.append(f"{stage.name}.{name}={value}")
    return found
