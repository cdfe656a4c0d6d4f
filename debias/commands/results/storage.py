"""The commands disk and clean: what a store and its cache hold, and the removal of what nothing refers to."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from debias.commands.results.command import Command
from debias.tracking.results.tables import Table, write

if TYPE_CHECKING:  # loads torch
    from debias.tracking.holdings import Holding, References

SHOWN = 20


def size_text(size: float) -> str:
    """Bytes in the largest unit that leaves at least 1: 512 B, 1.4 MB, 23.0 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.95:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store", type=Path, action="append", metavar="DIR", help="a folder of runs; may be repeated (default: runs)"
    )
    parser.add_argument(
        "--cache-dir", type=Path, default=Path(".cache"), metavar="DIR",
        help="the folder of built data sets and downloads (default: .cache)",
    )  # fmt: skip


def _held(options: argparse.Namespace) -> "list[tuple[Holding, References]]":
    from debias.tracking.holdings import cache_of, holdings_of, references_of

    found = []
    used: set[str] = set()
    for store in options.store or [Path("runs")]:
        references = references_of(store)
        used |= references.cached
        found += [(holding, references) for holding in holdings_of(store, references)]
    return [*found, *((holding, references) for holding in cache_of(options.cache_dir, used))]


def _disk(options: argparse.Namespace) -> list[Table]:
    held = _held(options)
    sizes: dict[str, list[int]] = {}
    for holding, _ in held:
        sizes.setdefault(holding.kind, []).append(holding.size)
    rows = [[kind, str(len(some)), size_text(sum(some))] for kind, some in sizes.items()]
    rows.append(["all", str(len(held)), size_text(sum(map(sum, sizes.values())))])
    places = ", ".join(str(place) for place in (*(options.store or ["runs"]), options.cache_dir))
    return [Table(f"On the disk in {places}", ["kind", "number", "size"], rows, ["kind"], _remarks(held))]


def _remarks(held: "Sequence[tuple[Holding, References]]") -> list[str]:
    """Why stages are kept that seem to belong to no run."""
    remarks = []
    for references in {id(references): references for _, references in held}.values():
        if references.damaged:
            first = references.damaged[0]
            remarks.append(
                f"{len(references.damaged)} runs cannot be read ({first}{' …' if references.damaged[1:] else ''}): "
                "nobody knows which stages they need, so all finished ones are kept"
            )
        if references.sweeping:
            remarks.append("a sweep is at work: all finished stages are kept")
        elif references.since < float("inf"):
            remarks.append("a run is at work: stages that are newer than its start are kept")
    return remarks


def _add_clean(parser: argparse.ArgumentParser) -> None:
    _add_places(parser)
    parser.add_argument("--checkpoints", action="store_true", help="also checkpoints of runs that did not end")
    parser.add_argument("--cache", action="store_true", help="also built data sets that no run of the stores used")
    parser.add_argument("--yes", action="store_true", help="remove what is shown; without it nothing is changed")


def _clean(options: argparse.Namespace) -> int:
    from debias.tracking.holdings import CHECKPOINT, LEFTOVER, UNREFERENCED, UNUSED, remove

    held = _held(options)
    kinds = [UNREFERENCED, LEFTOVER]
    kinds += [CHECKPOINT] if options.checkpoints else []
    kinds += [UNUSED] if options.cache else []
    chosen = [(holding, references) for holding, references in held if holding.kind in kinds]
    total = size_text(sum(holding.size for holding, _ in chosen))
    for remark in _remarks(held):
        print(remark)
    if not chosen:
        print("nothing to remove")
        return 0
    print(write([_table([holding for holding, _ in chosen], kind) for kind in kinds], "terminal"), end="")
    if not options.yes:
        print(f"{len(chosen)} of these, {total}; the same command with --yes removes them")
        return 0
    kept = [holding.path for holding, references in chosen if not remove(holding, references)]
    freed = size_text(sum(holding.size for holding, _ in chosen if holding.path not in kept))
    print(f"removed {len(chosen) - len(kept)} of {len(chosen)}, {freed}")
    for path in kept:
        print(f"kept, as another process has it: {path}")
    return 0


def _table(holdings: "Sequence[Holding]", kind: str) -> Table:
    own = sorted((holding for holding in holdings if holding.kind == kind), key=lambda holding: -holding.size)
    rows = [[str(holding.path), size_text(holding.size)] for holding in own[:SHOWN]]
    rest = own[SHOWN:]
    notes = [f"and {len(rest)} more, {size_text(sum(holding.size for holding in rest))}"] if rest else []
    return Table(f"{len(own)} {kind}" if own else f"no {kind}", ["path", "size"], rows, ["path"], notes)


COMMANDS = (
    Command(
        "disk", "", "what a store of runs and the cache hold, by kind",
        _add_places, tables=_disk,
        more="A run refers to the stages it went through and the data sets it read. `clean` removes what no run refers "
        "to.",
    ),
    Command(
        "clean", "", "remove finished stages that no run refers to, and what killed processes left",
        _add_clean, _clean,
        more="Nothing is removed without --yes. Runs, downloads and whatever another process is using are kept, and\n"
        "checkpoints (from which the same command continues) unless asked for. What is needed again is computed again.",
    ),
)  # fmt: skip
