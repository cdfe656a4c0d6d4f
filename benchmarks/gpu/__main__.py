"""One prepared call on a GPU machine: is the program right there, how fast is it, and what do the papers' runs give.

    python -m benchmarks.gpu --seconds 480 --out DIR           all phases, in order of value
    python -m benchmarks.gpu --out DIR --phase speed table1    some of them
    python -m benchmarks.gpu --table DIR                       what has been measured so far, as Markdown
    python -m benchmarks.gpu --small --device cpu --out DIR    everything in miniature

Each figure is a line of DIR/figures.jsonl, written immediately. The call may be cut at any time: the same command again
continues with what is missing, trainings from their checkpoints. See docs/gpu.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.record import FILE, Call, Record
from benchmarks.gpu.table import render

NAMES = ("machine", "correct", "repeat", "speed", "graphs", "table1", "others")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 when every phase asked for is finished, 1 when not, 2 for a user error."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="folder of the record and the log")
    where.add_argument("--table", type=Path, metavar="DIR", help="print the record in this folder, measure nothing")
    parser.add_argument("--seconds", type=float, default=480, help="for all phases together")
    parser.add_argument("--work", type=Path, help="folder of stored stages and runs (default: DIR/work)")
    parser.add_argument("--cache", type=Path, help="folder of built data sets (default: that folder's cache)")
    parser.add_argument("--data", help="folder of MNIST and CIFAR-10 (default: the variable DATA_DIR)")
    parser.add_argument("--phase", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a minimal version of each phase, to see that it works")
    given = parser.parse_args(arguments)
    if given.table is not None:
        if not (given.table / FILE).is_file():
            parser.error(f"--table {given.table}: there is no {FILE}")
        print(render(Record(given.table, given.table, 0.0)), end="")
        return 0
    out = given.out.resolve()
    work = (given.work or out / "work").resolve()
    call = Call(out, work, (given.cache or work / "cache").resolve(), given.data, given.device, given.small)
    for folder in (out, work):
        folder.mkdir(parents=True, exist_ok=True)
    # Only now: a table needs none of it, and phases are forked from here with all of it imported.
    from benchmarks.gpu.phases import run_phases

    done = run_phases(call, [name for name in NAMES if name in given.phase], given.seconds)
    print(render(call.record), end="")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
