"""What a method is: its stages, what it sets in them, and what it does otherwise on some data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from debias.data.registry import DATASETS


@dataclass(frozen=True)
class On:
    """What a method does otherwise on some data.

    stages : instead of the method's own; None: the same. values : settings by path, before those of the method
    """

    stages: tuple[str, ...] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A method.

    Parameters
    ----------
    stages
        Names of its stages in order.
    summary
        What it is, in one line.
    paper, link
        Where it was published, and an address; empty where it is of this project.
    data
        Words for the data of its published configuration, and for the settings that it was published with; of methods
        of this project, of the data that they are measured on.
    cost
        What a run takes, where that was measured; empty where it was not.
    expected
        What it reaches, where that is known.
    values
        Settings by path, as `pretrain.steps`, before what the data set brings.
    on
        Other stages or values, by kind of data or by data set; a data set before its kind.
    """

    stages: tuple[str, ...]
    summary: str
    paper: str = ""
    link: str = ""
    data: str = "colored_mnist skewed3 severity4"
    cost: str = ""
    expected: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, On] = field(default_factory=dict)

    def stages_on(self, dataset: str | None) -> tuple[str, ...]:
        """Names of its stages on a data set."""
        return next((other.stages for other in self._on(dataset) if other.stages is not None), self.stages)

    def sets_on(self, kind: str, path: str) -> tuple[bool, Any]:
        """Whether it sets a setting on one kind of data alone, and to what."""
        values = self.on[kind].values if kind in self.on else {}
        return path in values, values.get(path)

    def sets(self, path: str, dataset: str | None) -> tuple[bool, Any]:
        """Whether it sets a setting on a data set, and to what."""
        for values in (*(other.values for other in self._on(dataset)), self.values):
            if path in values:
                return True, values[path]
        return False, None

    def _on(self, dataset: str | None) -> Iterator[On]:
        if dataset is not None and dataset in self.on:
            yield self.on[dataset]
        if dataset in DATASETS and DATASETS[dataset].kind.name in self.on:
            yield self.on[DATASETS[dataset].kind.name]
