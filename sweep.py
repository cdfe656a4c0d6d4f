"""Many runs in one command: a grid over settings, seeds included, or a search.

python sweep.py sweeps/denetdm_table1.yaml [SETTING...]            the trials of a file; settings of one's own come last
python sweep.py with colored_digits quick method=erm,denetdm seed=1..3    the same in words: several values make a grid
python sweep.py sweeps/denetdm_table1.yaml --dry-run               which trials there are, and which are finished

A file with a part `search` in place of `grid` has Optuna search settings by a figure of held-out images; --dry-run
shows its best trials so far.

Each trial is an ordinary run in `store`, as `python main.py with …` makes it, and shares stages with the others. The
same command again goes on: finished trials are not run again, whoever started them, interrupted and failed ones are.
Several of these commands, by --jobs or in several terminals, share the work. `python results.py` reads the figures.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import main as program
from errors import UserError
from sweeps.engines.here import Here
from sweeps.plan import Plan, common_words, read_document, read_plan, words_plan
from sweeps.run import progress_table, records_of, run_sweep, states_of
from sweeps.search import run_search
from sweeps.searched import Search, read_search
from sweeps.shown import report
from tracking.console import say
from tracking.mongo.address import redact
from tracking.results.published import beside
from tracking.results.summary import tables_of
from tracking.results.tables import write


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status (0 all trials finished, 1 some failed, 2 a fault of the person)."""
    try:
        return _run(arguments)
    except UserError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    experiment = program.build()
    first = options.words[0] if options.words else ""
    if first.endswith((".yaml", ".yml")) and "search" in (document := read_document(Path(first))):
        if options.jobs > 1:
            raise UserError("--jobs: a search goes by what came before, so it is one process")
        words = [*common_words(Path(first), document), *(word for word in options.words[1:] if word != "with")]
        return _search(
            experiment, read_search(experiment, Path(first).stem, words, document["search"]), options.dry_run
        )
    plan = replace(_plan(experiment, options.words), record=options.record)
    if options.dry_run:
        print(write([progress_table(plan, states_of(plan))], "terminal"), end="")
        return 0
    with _helpers(arguments, options.jobs - 1):
        states = run_sweep(plan, Here(), _say)
    tables = [progress_table(plan, states), *tables_of(records_of(states), "unbiased", beside)]
    print(write(tables, "terminal"), end="")
    return 0 if all(state.status == "finished" for state in states) else 1


def _search(experiment: program.DebiasExperiment, search: Search, dry: bool) -> int:
    failed = False
    if not dry:
        failed = any(state.status == "failed" for state in run_search(experiment, search, Here(), _say))
    print(write(report(search.store, search.name, search.storage), "terminal"), end="")
    return int(failed)


@contextlib.contextmanager
def _helpers(arguments: Sequence[str], count: int) -> Iterator[None]:
    """Processes that give the same command for themselves: they share the work, as any others would."""
    words = [sys.executable, str(Path(__file__).resolve()), *arguments, "--jobs", "1"]
    children = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            if sys.exc_info()[0] is not None:
                child.terminate()
            child.wait()


def _say(line: str) -> None:
    say(redact(line))


def _plan(experiment: program.DebiasExperiment, words: Sequence[str]) -> Plan:
    if not words or (words[0] == "with" and len(words) == 1):
        raise UserError("which trials? Name a YAML file, or settings after `with` (`python sweep.py --help`)")
    first, *rest = words
    if first == "with":
        return words_plan(experiment, rest)
    if rest[:1] == ["with"]:
        rest = rest[1:]
    return read_plan(experiment, Path(first), rest)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="a YAML file and settings, or `with` and settings")
    parser.add_argument(
        "--record", type=Path, help="a CSV file of runs that count as finished too; each finished run is added to it"
    )
    parser.add_argument(
        "--jobs", type=_count, default=1, help="processes at once on this machine; give threads=1 with several"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the trials, run none")
    return parser.parse_intermixed_args(list(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
