"""What a search found, read from its storage alone: tables, and the best trial's command. Imports nothing heavy."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.rawfiles import read_text
from debias.settings import nearest
from debias.sweeps.searching.study import (
    ADDRESS,
    checked_address,
    journal_of,
    load_study,
    mean_and_std,
    short,
    words_of,
)
from debias.sweeps.searching.trials import counts_of, finished, given_up, goes_by_test_set, importances, objective_name
from debias.tracking.results.tables import NOTHING, Table

ROWS = 10
ORACLE = "oracle: these settings were chosen on the test set"


def searches_of(store: Path) -> dict[str, str]:
    """The searches of a store by name, with where each is kept: a journal file or the address of a database."""
    folder = store / "sweeps"
    found = {path.stem: str(journal_of(store, path.stem)) for path in sorted(folder.glob("*.journal"))}
    for path in sorted(folder.glob(f"*{ADDRESS}")):
        found[path.stem] = read_text(path, f"{path}:").strip()
    return found


def list_table(store: Path) -> Table:
    """Every search of a store in a line."""
    rows = []
    for name, place in searches_of(store).items():
        try:
            study = load_study(place, name)
        except UserError as error:
            rows.append([name, NOTHING, NOTHING, NOTHING, NOTHING, str(error)])
            continue
        counts, objective = counts_of(study), objective_name(study)
        objective += " (oracle)" if goes_by_test_set(study) else ""
        best = max((trial.value for trial in finished(study)), default=None)
        rows.append(
            [
                name, str(counts["finished"]), str(counts["pruned"]), str(counts["failed"]),
                NOTHING if best is None else f"{best:.2f}", objective,
            ]
        )  # fmt: skip
    head = ["search", "finished", "pruned", "failed", "best, %", "objective"]
    return Table(f"Searches in {store}", head, rows, text_columns=[head[0], head[-1]])


def report(store: Path, name: str, place: str | None = None, top: int = 3) -> list[Table]:
    """The tables of a search, with its pictures drawn.

    Parameters
    ----------
    store, name
        Where it was run, and the name of its file.
    place
        Its storage, where the store does not say all of the address.
    top
        Of how many of the best trials there is a mean.

    Raises
    ------
    UserError
        There is no such search, or its storage cannot be used.
    """
    known = searches_of(store)
    if place is None and name not in known:
        has = f"; it has {', '.join(known)}" if known else ""
        raise UserError(f"{store} has no search {name!r}{nearest(name, known)}{has}")
    study = load_study(place or known[name], name)
    tables = [best_table(study, name, top)]
    shares = importances(study)
    if shares:
        rows = [[path, f"{100 * share:.0f}"] for path, share in shares.items()]
        tables.append(
            Table(
                f"{name}: what mattered, % of the variance of finished trials (fANOVA)",
                ["setting", "share"],
                rows,
                ["setting"],
            )
        )
    from debias.sweeps.searching.pictures import draw  # loads what drawing needs

    paths = draw(study, name, store / "sweeps")
    last = tables[-1]
    notes = [*last.notes, *(f"picture: {path}" for path in paths)]
    tables[-1] = Table(last.title, last.columns, last.rows, last.text_columns, notes)
    return tables


def best_table(study: Any, name: str, top: int = 3) -> Table:
    """The best finished trials, then those that were pruned; below, means, counts and how to run the best again."""
    done = sorted(finished(study), key=lambda trial: -trial.value)
    dropped = sorted(given_up(study), key=lambda trial: -trial.number)
    paths = list(dict.fromkeys(path for trial in (*done, *dropped) for path in trial.params))
    tested = any("tested" in trial.user_attrs for trial in done)
    rows = []
    for trial in (*done[:ROWS], *dropped[:ROWS]):
        attributes = trial.user_attrs
        state = f"pruned in epoch {trial.last_step}" if trial in dropped else "finished"
        row = [str(trial.number + 1), *(short(trial.params.get(path, NOTHING)) for path in paths)]
        row.append(NOTHING if trial.value is None else f"{trial.value:.2f}")
        if tested:
            row.append(f"{attributes['tested']:.2f}" if "tested" in attributes else NOTHING)
        rows.append([*row, state, attributes.get("run", NOTHING)])
    objective = objective_name(study)
    head = ["trial", *paths, objective, *(["on the test set"] if tested else []), "state", "run"]
    counts = counts_of(study)
    notes = [", ".join(f"{number} {state}" for state, number in counts.items() if number or state == "finished")]
    if len(done) > 1:
        notes.append(_top_line(done[:top], objective))
    if done:
        notes += _again(study, done[0])
    if goes_by_test_set(study):
        notes.append(ORACLE)
    oracle = " (oracle: by test images)" if goes_by_test_set(study) else ""
    title = f"{name}: best of {counts['finished']} trials, %{oracle}"
    return Table(title, head, rows, text_columns=["state", "run"], notes=notes)


def _top_line(best: Sequence[Any], objective: str) -> str:
    line = f"best {len(best)}: {mean_and_std([trial.value for trial in best])} {objective}"
    tested = [trial.user_attrs["tested"] for trial in best if "tested" in trial.user_attrs]
    if len(tested) == len(best):
        line += f", {mean_and_std(tested)} on the test set"
    return line + " (spread over settings, not seeds)"


def _again(study: Any, best: Any) -> list[str]:
    words = study.user_attrs.get("words")
    lines = [f"best: trial {best.number + 1}, {best.user_attrs['run']}"] if "run" in best.user_attrs else []
    if words is None:
        return [*lines, "its command is not kept, as the search is of an older version; give sweep.py its file again"]
    return [*lines, f"again: python main.py with {shlex.join([*words, *words_of(best.params)])}"]


def all_tables(stores: Sequence[Path], name: str | None, place: str | None, top: int) -> list[Table]:
    """What `results.py search` shows: the searches of stores, or one of them."""
    if top < 1:
        raise UserError("--top: a whole number of at least 1")
    if name is None:
        if not any(map(searches_of, stores)):
            raise UserError(f"no searches in {', '.join(map(str, stores))}")
        return [list_table(store) for store in stores]
    holding = [store for store in stores if name in searches_of(store)]
    place = None if place is None else checked_address(place)
    return report(holding[0] if holding else stores[0], name, place, top)
