"""What is shown of a training while it runs; nothing here changes its result."""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm.auto import tqdm


def epoch_bar(name: str, done: int, epochs: int, shown: bool) -> "tqdm[Any]":
    """A progress bar of epochs."""
    # The terminal itself, not what Sacred captures into the record; a file gets a line now and then.
    terminal = sys.__stderr__
    return tqdm(
        initial=done,
        total=epochs,
        desc=name,
        unit="epoch",
        disable=not shown,
        file=terminal,
        mininterval=0.5 if terminal is not None and terminal.isatty() else 30,
    )


def headline(row: Mapping[str, float], read_out: str) -> str:
    """The figure of a read-out at one epoch in a few words."""
    figure = "unbiased" if f"{read_out}/unbiased" in row else "average"
    return f"{read_out} {figure} {row[f'{read_out}/{figure}']:.1f} %"
