"""The data sets by name. A new one is its file and a line here."""

from data.generated import biased, bimodal, colored, corrupted, jitter
from data.photos import imagesets
from data.spec import DatasetSpec

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for specs in (
        colored.SPECS,
        biased.SPECS,
        corrupted.SPECS,
        jitter.SPECS,
        bimodal.SPECS,
        imagesets.SPECS,
    )
    for spec in specs
}


def available() -> str:
    """Names of the data sets that can be loaded, for messages."""
    return ", ".join(DATASETS)
