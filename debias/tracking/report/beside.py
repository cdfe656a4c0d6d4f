"""What lies beside a file of weights: the record of its run, and what was found about a shortcut in its images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from debias.tracking.folders import RunRecord, make_record, read_json, read_runs

# What damaged or foreign JSON raises where it is read as a record.
ODD = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True)
class Beside:
    """What is known of a model beside its file.

    record : of the run that left it; None without one
    matrices : test hits and images, [2][targets][biases], by stage, selection and read-out
    diagnosis : what `diagnose` or `study` found in the same images; None where neither was run; by : which run it was
    notes : lines about what is missing
    """

    record: RunRecord | None = None
    matrices: Mapping[str, Any] = field(default_factory=dict)
    diagnosis: Mapping[str, Any] | None = None
    by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def study(self) -> Mapping[str, Any] | None:
        """What a study recorded, where the model is one of a study."""
        found = None if self.record is None else self.record.info.get("study")
        return found if isinstance(found, Mapping) else None


def look_beside(checkpoint: Path, description: Mapping[str, Any]) -> Beside:
    """What lies beside a file of weights, by what the file says of itself (`models.export.final_model`)."""
    folder = checkpoint.resolve().parent
    try:
        run, config, info = (read_json(folder / f"{name}.json") for name in ("run", "config", "info"))
        record = make_record(folder, run, config, info)
        left = checkpoint.name in run.get("artifacts", ())
    except ODD:
        record, left = None, False
    if record is None or not left:
        return Beside(notes=("there is no record of a run beside the weights: the card has what the file itself says",))
    if other := _differs(record, description):
        return Beside(
            notes=(
                f"the record beside the weights is of another run (its {other} is another): the card has what the file "
                "itself says",
            )
        )
    try:
        matrices = read_json(folder / "matrices.json")
    except (OSError, ValueError):
        matrices = {}
    diagnosis, by = _diagnosis(record)
    return Beside(record, matrices if isinstance(matrices, dict) else {}, diagnosis, by)


def _differs(record: RunRecord, description: Mapping[str, Any]) -> str:
    """The first thing in which a file of weights and a record contradict each other; empty where nothing does."""
    said = dict(description.get("trained", {}))
    study = record.info.get("study")
    own = {name: str(record.config[name]) for name in ("dataset", "method", "skew", "seed") if name in record.config}
    if isinstance(study, Mapping):
        own["method"] = str(study.get("chosen"))
    return next((name for name, value in own.items() if name in said and str(said[name]) != value), "")


def _diagnosis(record: RunRecord) -> tuple[Mapping[str, Any] | None, str]:
    """The newest diagnosis of the same images in the same store, and which run it is of."""
    if isinstance(record.info.get("diagnosis"), Mapping):
        return record.info["diagnosis"], f"{record.command}, the run that trained the model"
    content = (record.info.get("data") or {}).get("content")
    if not content:
        return None, ""
    for other in reversed(list(read_runs(record.folder.parent))):
        found, data = other.info.get("diagnosis"), other.info.get("data") or {}
        if isinstance(found, Mapping) and isinstance(data, Mapping) and data.get("content") == content:
            return found, f"{other.command}, run {other.folder.name}, on the same images"
    return None, ""
