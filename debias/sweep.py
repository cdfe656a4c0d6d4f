"""Many runs in one command: a grid over settings, seeds included, or a search.

python sweep.py sweeps/denetdm_table1.yaml [SETTING...]            the trials of a file; settings may follow
python sweep.py with colored_digits quick method=erm,denetdm seed=1..3    the same in words: several values make a grid
python sweep.py sweeps/denetdm_table1.yaml --dry-run               which trials there are, and which are finished

A file with a section `search` instead of `grid` has Optuna search settings by a figure of held-out images; --dry-run
shows its best trials so far. In words:

python sweep.py with colored_digits erm valid_fraction=0.2 search.pretrain.learning_rate=default \\
    search.pretrain.batch_size=choice:32,64 search.objective=valid/model/average search.trials=10 search.name=mine

Each trial is an ordinary run in `store`, as `python main.py with …` makes it, and shares stages with the others. The
same command continues: finished trials are not run again, whoever started them, interrupted and failed ones are.
Several of these commands, in several terminals or on several machines, share the work. `python results.py` reads the
figures.

python sweep.py FILE --together                                    trials of one kind trained together: for a GPU
python sweep.py FILE --jobs 4                                      four processes on this machine
python sweep.py FILE --engine ray --address auto --gpus 0.25       a Ray cluster, four trials on a GPU
python sweep.py FILE --engine slurm --slurm timeout_min=600        one Slurm job per trial
"""

import debias.waiting  # noqa: F401 - before torch
from debias.starting import loaded

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from debias.commands import experiment as program
from debias.commands.console import say
from debias.endings import status_of
from debias.errors import UserError
from debias.redaction import redact
from debias.sweeps.drive import progress_table, records_of, run_sweep, states_of
from debias.sweeps.engines.base import Engine
from debias.sweeps.engines.here import Here
from debias.sweeps.engines.options import add_options, check_engine_options, make_engine
from debias.sweeps.live import live_table
from debias.sweeps.plan import Plan, common_words, read_document, read_plan, words_plan
from debias.sweeps.searching.search import run_search
from debias.sweeps.searching.spec import Search, read_search
from debias.sweeps.searching.tables import report
from debias.sweeps.searching.words import is_search, search_words
from debias.sweeps.together import add_together, spelled_out, with_groups
from debias.tracking.results.published import beside
from debias.tracking.results.summary import tables_of
from debias.tracking.results.tables import write

loaded()


def main(arguments: Sequence[str]) -> int:
    """Run a command line; the exit status (0 all trials finished, 1 some failed, 2 a user error)."""
    return status_of(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    check_engine_options(options)
    experiment = program.build()
    first = options.words[0] if options.words else ""
    if first.endswith((".yaml", ".yml")) and "search" in (document := read_document(Path(first))):
        words = [*common_words(Path(first), document), *(word for word in options.words[1:] if word != "with")]
        search = read_search(experiment, Path(first).stem, words, document["search"])
        return _search(experiment, search, options)
    if is_search(options.words):
        name, words, given = search_words([word for word in options.words if word != "with"])
        return _search(experiment, read_search(experiment, name, words, given), options)
    alone = options.engine == "here" and (options.jobs or 1) == 1
    plan = with_groups(replace(_plan(experiment, options.words), record_file=options.record), options.together, alone)
    if options.dry_run:
        print(write([progress_table(plan, states_of(plan), groups=True)], "terminal"), end="")
        return 0
    with _engine(options, plan.store, [trial.words for trial in plan.trials], plan) as (engine, say):
        states = run_sweep(plan, engine, say)
    tables = [progress_table(plan, states), *tables_of(records_of(states), "unbiased", beside)]
    print(write(tables, "terminal"), end="")
    return 0 if all(state.status == "finished" for state in states) else 1


def _search(experiment: program.DebiasExperiment, search: Search, options: argparse.Namespace) -> int:
    if isinstance(options.together, int) and options.together > 1:
        raise UserError("--together: what a search tries next goes by how the trials before it ended; leave it out")
    failed = False
    if not options.dry_run:
        with _engine(options, search.store, [search.words]) as (engine, say):
            failed = any(state.status == "failed" for state in run_search(experiment, search, engine, say))
    print(write(report(search.store, search.name, search.storage), "terminal"), end="")
    return int(failed)


@contextlib.contextmanager
def _engine(
    options: argparse.Namespace, store: Path, words: Sequence[Sequence[str]], plan: Plan | None = None
) -> Iterator[tuple[Engine, Callable[[str], None]]]:
    """What runs the trials, and what says lines; in a terminal with a table, where runs do not draw their own bars."""
    with contextlib.closing(make_engine(options, store, words)) as engine:
        if isinstance(engine, Here) or sys.__stderr__ is None or not sys.__stderr__.isatty():
            yield engine, _say
            return
        todo = None if plan is None else sum(state.status != "finished" for state in states_of(plan))
        with live_table(engine, todo) as seen:
            yield seen


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


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sweep.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="a YAML file and settings, or `with` and settings")
    parser.add_argument(
        "--record", type=Path, help="a CSV file of runs that also count as finished; each finished run is added to it"
    )
    parser.add_argument("--dry-run", action="store_true", help="list the trials, run none")
    add_together(parser)
    add_options(parser)
    return parser.parse_intermixed_args(spelled_out(arguments))


def run() -> NoReturn:
    """The command line of this process."""
    sys.exit(main(sys.argv[1:]))
