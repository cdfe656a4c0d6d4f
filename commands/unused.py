"""Settings that were changed and that a run does not read: it would give the same figures without them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from catalogue import RUN_SETTINGS
from commands.console import say
from config import NAMED_CONFIGS
from stages.recipes import STAGES
from training.stage import Stage

# Read by the loading of some data sets, and by nothing else.
OF_DATA = (
    "n_confusing_labels", "severity", "type", "placement", "frost_dir", "variance", "palette", "colour_std", "reverse",
    "validation", "data_dir", "image_size", "framing", "labels", "outside", "test_fraction", "own_valid", "bad_files",
    "duplicates", "similar",
)  # fmt: skip
# Read by some commands alone.
OF_COMMANDS = {
    "folder": ("predict",),
    "output": ("predict", "export"),
    "checkpoint": ("evaluate", "probe", "predict", "export"),
    "probe_on": ("probe",),
}


# A protocol is for all methods: what it sets of others is nothing that a person asked for.
_OF_PROTOCOLS: Mapping[str, Mapping[str, Any]] = NAMED_CONFIGS["protocol"]["reference"]


class Noted(Mapping[str, Any]):
    """Settings that note which of them are read."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._settings[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


def say_unused(settings: Mapping[str, Any], read: set[str], stages: Sequence[Stage], command: str) -> None:
    """A line that names changed settings which the run does not use; nothing where there are none.

    read : settings that the data set's loading has read; command : what is run, such as train or evaluate
    """
    unused = unused_settings(settings, read, stages, command)
    if unused:
        run = f"{settings['method']} on {settings['dataset']}" if stages else f"{command} on {settings['dataset']}"
        said = ", ".join(unused[:10]) + (f" and {len(unused) - 10} more" if len(unused) > 10 else "")
        say(f"not used by {run}: {said}")


def unused_settings(settings: Mapping[str, Any], read: set[str], stages: Sequence[Stage], command: str) -> list[str]:
    """Changed settings, as NAME=VALUE, that neither the data set's loading, nor a stage, nor the command reads."""
    method, dataset, quick = settings["method"], settings["dataset"], settings["quick"]
    idle = [name for name in OF_DATA if name not in read]
    idle += [name for name, commands in OF_COMMANDS.items() if command not in commands]
    if not stages:
        idle += ["replicas"]
    found = [
        f"{name}={settings[name]}"
        for name in idle
        if settings[name] != RUN_SETTINGS[name].default_for(method, dataset, quick)
    ]
    for stage in STAGES.values():
        if stage not in stages:
            found += [
                f"{stage.name}.{name}={settings[stage.name][name]}"
                for name, setting in stage.settings.items()
                if settings[stage.name][name] != setting.default_for(method, dataset, quick)
                and settings[stage.name][name] != _OF_PROTOCOLS.get(stage.name, {}).get(name)
            ]
    return found
