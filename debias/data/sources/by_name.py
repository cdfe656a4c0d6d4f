"""The sources of small images by name: data sets of one kind are built from each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from debias.data.sources.digits import digits
from debias.data.sources.idx import Source, fashion_mnist, mnist
from debias.data.spec import DatasetSpec, Kind
from debias.data.split import Task

Read = Callable[[str | None, Path], Source]
Load = Callable[[Mapping[str, Any], str, Read], Task]


def _read_digits(data_dir: str | None, cache_dir: Path) -> Source:
    return digits(cache_dir)


# Name, what its images are, and how it is read.
SOURCES: tuple[tuple[str, str, Read], ...] = (
    ("mnist", "MNIST digits", mnist),
    ("fashion", "Fashion-MNIST garments", fashion_mnist),
    ("digits", "embedded handwritten digits", _read_digits),
)


def source_of(settings: Mapping[str, Any], read: Read) -> Source:
    """The source, or as many of its images as the setting `limit` says."""
    source = read(settings["data_dir"], Path(settings["cache_dir"]))
    return source if settings["limit"] is None else source.limited(settings["limit"], settings["seed"])


def on_sources(kind: Kind, load: Load, summary: str) -> tuple[DatasetSpec, ...]:
    """A data set of one kind from each source; `load` takes settings, the data set's name and the source's reader."""

    def spec(source: str, what: str, read: Read) -> DatasetSpec:
        name = f"{kind.name}_{source}"
        more = "; no download" if source == "digits" else ""
        return DatasetSpec(name, summary.format(what) + more, lambda settings: load(settings, name, read), kind)

    return tuple(spec(*each) for each in SOURCES)
