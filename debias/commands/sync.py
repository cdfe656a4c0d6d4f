"""Runs of a store brought into a database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from debias.commands.console import say, show
from debias.errors import UserError
from debias.tracking.mongo.address import Address


def sync_runs(config: Mapping[str, Any], address: Address | None) -> None:
    """Bring every run of the store into a database, and say how many there are."""
    if address is None:
        raise UserError("sync: which database? Set mongo_url=mongodb://host:port/database or the variable MONGO_URL")
    from debias.tracking.mongo.sync import bring_all

    limit = int(config["mongo_file_mb"] * 2**20)
    total, new, damaged = bring_all(address, Path(config["store"]), limit, config["progress"])
    show(Text(f"{total} runs of {config['store']} are in {address}; {new} of them had something new"))
    for folder in damaged:
        say(f"skipped, as its files are damaged: {folder}")
