"""What a data set is: how it is loaded, which settings it has, and the defaults it brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from debias.data.split import Task
from debias.settings import Setting

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What data sets of one kind have in common.

    Parameters
    ----------
    name
        Under which recipes give values of their own.
    settings
        Names of the settings in `data.settings` that say how the data is made or read; others say nothing of it.
    defaults
        Defaults by path: of a run's setting (`skew`), of one stage's (`branches.deep`), or of every stage's setting
        that follows the data (`network`, see `Setting.follows`).
    quick
        The same under the named config `quick`.
    """

    name: str
    settings: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetSpec:
    """A data set.

    Parameters
    ----------
    name, summary
        Its name in named configs, and what it is in one line.
    load
        Makes its Task, without hold-out and chosen augmentation, from complete settings.
    kind
        What it shares with others like it.
    has_skew
        Whether the setting `skew` chooses its share of conflicting training images.
    augment
        Name of the augmentation of its training batches; None: they are as they are.
    defaults, quick, settings
        As of its kind, and before those.
    """

    name: str
    summary: str
    load: Callable[[Settings], Task]
    kind: Kind
    has_skew: bool = True
    augment: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        """Whether a setting of `data.settings` that is not every data set's is one of its own."""
        return name in self.settings or name in self.kind.settings or (name in ("skew", "rho") and self.has_skew)

    def on(self, kind: Kind) -> DatasetSpec:
        """The same data as another kind: with the defaults of that kind, and of its own those of a run's settings."""
        own = {path: value for path, value in self.defaults.items() if "." not in path and path not in kind.defaults}
        return replace(self, kind=kind, defaults=own, quick={})

    def default(self, path: str, setting: Setting, quick: bool = False) -> tuple[bool, Any]:
        """Whether it brings a default of a setting, and which; under `quick` only what it brings for that."""
        tables = (self.quick, self.kind.quick) if quick else (self.defaults, self.kind.defaults)
        for name in (path, setting.follows):
            for table in tables:
                if name is not None and name in table:
                    return True, table[name]
        return False, None
