"""Bad inputs by the name of a case: files that are not what they should be, and the command that meets them."""

import debias.waiting  # noqa: F401 - before torch

from pathlib import Path

from benchmarks.bad_data import data_case
from benchmarks.bad_kit import BadInput, Kit
from benchmarks.bad_stored import of_places, of_stored
from benchmarks.bad_sweeps import of_sweeps
from benchmarks.bad_weights import of_weights
from benchmarks.bad_words import words_case

KINDS = {
    "w_": of_weights,
    "store_": of_stored,
    "data_": data_case,
    "t_": of_places,
    "cli_": words_case,
    "s_": of_sweeps,
}


def bad_input(name: str, command: str, kit: Kit, folder: Path) -> BadInput | None:
    """The case of this name in an empty folder; None where nothing is known of it."""
    make = next((make for start, make in KINDS.items() if name.startswith(start)), None)
    return None if make is None else make(name, command.split(" "), kit, folder)
