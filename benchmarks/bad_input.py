"""Bad inputs of a list, one after another in this process: is each answered by one line, in time, without leftovers?

    python -m benchmarks.bad_input LIST.tsv [--only REGEX] [--seconds 60] [--out FILE.tsv]

The list has a line for each input: case, command, exit, last line, what was wrong. Inputs are made by the name of the
case (`benchmarks.bad_inputs`); a case that nothing is known of is counted as not tried. An input is right when it ends
with status 2 and one line, or with status 0 after saying what is odd, within the time; a traceback, another status, a
run that is left as running, or a terminal escape that is printed is wrong.
"""

import debias.waiting  # noqa: F401 - before torch

import argparse
import contextlib
import csv
import io
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bad_inputs import bad_input
from benchmarks.bad_kit import BadInput, Kit
from debias import main


class OutOfTime(BaseException):
    """Raised by the alarm; no handler of errors takes it for one of its own."""


def run_case(case: BadInput, folder: Path, seconds: int) -> tuple[str, str]:
    """Run one case in a folder: empty text or what is wrong, and the last line that was said."""
    out = io.StringIO()
    began = time.monotonic()
    status: object = None
    temporary = folder.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    temporary.chmod(0o777)
    with _inside(folder, case.environment, temporary), _captured(out), _alarm(seconds):
        try:
            status = case.call()
        except OutOfTime:
            status = f"HANG after {time.monotonic() - began:.0f} s"
        except SystemExit as error:
            status = error.code
        except BaseException as error:
            status = f"TRACEBACK {type(error).__name__}: {str(error)[:100]}"
            if os.environ.get("SHOW"):
                traceback.print_exc(file=sys.__stderr__)
    said = out.getvalue()
    last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
    fault = case.judge(status, said, folder)
    # Headers that torch compiles once stay there for every program of the user.
    names = sorted(path.name for path in temporary.iterdir())
    if not fault and (left := [name for name in names if not name.startswith("torchinductor_")]):
        fault = f"LEFT in the folder of temporary files: {left[0]}"
    return fault, last[:200]


@contextlib.contextmanager
def _inside(folder: Path, environment: dict[str, str], temporary: Path) -> Iterator[None]:
    before, there, usual = dict(os.environ), Path.cwd(), tempfile.tempdir
    os.chdir(folder)
    os.environ.update(environment)
    tempfile.tempdir = str(temporary)
    try:
        yield
    finally:
        os.chdir(there)
        os.environ.clear()
        os.environ.update(before)
        tempfile.tempdir = usual


@contextlib.contextmanager
def _captured(out: io.StringIO) -> Iterator[None]:
    kept = sys.__stdout__, sys.__stderr__
    sys.__stdout__ = sys.__stderr__ = out  # type: ignore[misc, assignment]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            yield
    finally:
        sys.__stdout__, sys.__stderr__ = kept  # type: ignore[misc]


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def kind_of(name: str) -> str:
    """What the figures are counted by."""
    for start, kind in (
        ("w_", "weight files"), ("store_", "stored files"), ("cli_disk", "full disks"), ("cli_ro", "full disks"),
        ("cli_opt", "options"), ("cli_", "settings"), ("data_", "data"), ("t_", "databases and tables"),
    ):  # fmt: skip
        if name.startswith(start):
            return kind
    return "sweeps"


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bad_input", description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--only", default="", help="cases whose name this expression is found in")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    with options.list.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        # Cases without rights are run as somebody else.
        Path(scratch).chmod(0o755)
        kit = Kit(Path(scratch) / "kit", main.main)
        for number, row in enumerate(rows):
            name = row["case"]
            if not re.search(options.only, name):
                continue
            folder = Path(scratch) / str(number) / "cwd"
            folder.mkdir(parents=True)
            case = bad_input(name, row["command"], kit, folder)
            if case is not None and (named := re.search(r"does not mention ([^;]+)", row["what is wrong"] or "")):
                case.named = named[1].strip()
            if case is None:
                skipped[kind_of(name)] += 1
                lines.append((name, "not tried", ""))
                continue
            fault, last = run_case(case, folder, options.seconds)
            tried[kind_of(name)] += 1
            wrong[kind_of(name)] += bool(fault)
            lines.append((name, fault or "right", last))
            print(f"{'WRONG' if fault else 'right'}  {name}: {fault or last}", flush=True)
    if options.out:
        options.out.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    for kind in sorted(set(tried) | set(skipped)):
        print(f"{kind}: {tried[kind]} tried, {wrong[kind]} wrong, {skipped[kind]} not tried")
    return int(bool(sum(wrong.values())))


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
