"""The data sets by name. A new one is its file, which says `SPECS`, and a line here."""

from importlib import import_module

from debias.data.spec import DatasetSpec

MODULES = (
    "debias.data.generated.colored",
    "debias.data.generated.biased",
    "debias.data.generated.corrupted",
    "debias.data.generated.jitter",
    "debias.data.generated.bimodal",
    "debias.data.photos.imagesets",
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for name in MODULES for spec in import_module(name).SPECS}


def available() -> str:
    """Names of the data sets that can be loaded, for messages."""
    return ", ".join(DATASETS)
