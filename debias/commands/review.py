"""The command `review`: a page on this machine, on which the images that were mined are looked at and marked."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from debias.commands.common import load_data
from debias.commands.console import say
from debias.data.photos.decode import cores
from debias.data.registry import DATASETS
from debias.data.settings import DATA_SETTINGS, complete
from debias.data.split import Task
from debias.errors import UserError
from debias.features.embed import embedded
from debias.features.loading import NONE
from debias.features.source import find_source
from debias.review.items import TABLE, read_items
from debias.review.likeness import PIXELS, Likeness, coarse
from debias.review.looks import Looks
from debias.review.marks import Marks
from debias.review.server import Server
from debias.review.session import Session
from debias.review.table import rows_of
from debias.settings import Setting, nearest
from debias.tracking.folders import is_run_name, read_json
from debias.training.machine import pick_device

OPTIONS: dict[str, Setting] = {
    "store": Setting("runs", "folder of runs"),
    "port": Setting(0, "port of the page; 0: any that is free", low=0, high=65535),
    "open": Setting(False, "open the page in a browser"),
    "marks": Setting(None, "a reviewed.csv of another run, whose marks are taken", optional=True, kind=str),
    "data_dir": Setting(None, "where the images are now, if not where they were", optional=True, kind=str),
    "cache_dir": Setting(None, "folder of decoded images; None: the run's", optional=True, kind=str),
    "threads": Setting(None, "threads that decode and embed; None: one a core", low=1, optional=True, kind=int),
}
USAGE = "python main.py review RUN, a run's number or folder; options: " + ", ".join(f"{name}=…" for name in OPTIONS)


def review_run(words: Sequence[str]) -> int:
    """Serve the page until it is interrupted; the exit status.

    words : the run, and options as NAME=VALUE, with or without `with` before them

    Raises
    ------
    UserError
        No such run or option; a run that mined nothing, or whose images cannot be loaded any more; a port in use.
    """
    if any(word in ("-h", "--help") for word in words):
        print(USAGE, *(f"  {name}={setting.default}: {setting.help}" for name, setting in OPTIONS.items()), sep="\n")
        return 0
    run, options = parse(words)
    folder = find_run(run, Path(options["store"]))
    if options["threads"] is not None:
        torch.set_num_threads(options["threads"])
    session = load_session(folder, options)
    try:
        return _serve(Server(session, options["port"]), options["open"])
    finally:
        session.marks.close()


def load_session(folder: Path, options: Mapping[str, Any]) -> Session:
    """A run's images and marks; errors as of `review_run`.

    options : data_dir, cache_dir, threads and marks, as of `OPTIONS`
    """
    config = _config(folder, options)
    task = _load(folder, config)
    items = read_items(folder, task)
    root = _root(config)
    marks = Marks(folder, items, task.target_names, rows_of(task, items, root), root)
    try:
        if options["marks"] is not None:
            marks.take(Path(options["marks"]))
        likeness = _likeness(task, config, options["threads"])
    except BaseException:
        marks.close()
        raise
    title = f"run {folder.name}: {config['dataset']}"
    return Session(title, task.target_names, items, Looks(task.train.shown), likeness, marks, root)


def parse(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The run that a command line names, and its options, all of them."""
    given = [word for word in words if word != "with"]
    runs = [word for word in given if "=" not in word or Path(word).is_dir()]
    if len(runs) != 1 or runs[0].startswith("-"):
        raise UserError(f"review is of one run: {USAGE}")
    options = {name: setting.default for name, setting in OPTIONS.items()}
    for word in given:
        if word == runs[0]:
            continue
        name, _, value = word.partition("=")
        if name not in OPTIONS:
            raise UserError(f"review has no option {name!r}{nearest(name, OPTIONS)}: {USAGE}")
        options[name] = OPTIONS[name].check(name, _value(value, OPTIONS[name].kind or type(OPTIONS[name].default)))
    return runs[0], options


def _value(text: str, kind: type) -> Any:
    if kind is int and text.isascii() and text.isdecimal():
        return int(text)
    return text if kind is str else {"True": True, "False": False}.get(text, text)


def find_run(run: str, store: Path) -> Path:
    """The folder of a run, by its number in a store or by itself."""
    folder = store / run if is_run_name(run) and not Path(run, "config.json").is_file() else Path(run)
    if not (folder / "config.json").is_file():
        raise UserError(f"review: there is no run {folder}{_reviewable(store)}")
    if not (folder / TABLE).is_file():
        raise UserError(
            f"review: run {folder} has no {TABLE}, as it mined nothing; `python main.py mine with …` does"
            f"{_reviewable(store)}"
        )
    return folder


def _reviewable(store: Path) -> str:
    names = [path.parent.name for path in store.glob(f"*/{TABLE}") if is_run_name(path.parent.name)]
    some = sorted(names, key=int)[-10:]
    return f"; runs of {store} with suspects: {', '.join(some)}" if some else ""


def _config(folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the run's data, for looking at it: nothing is held out, and what cannot be read is left out."""
    try:
        recorded = read_json(folder / "config.json")
        config = {name: recorded[name] for name in (*DATA_SETTINGS, "seed") if name in recorded}
        known = config["dataset"] in DATASETS and isinstance(config["seed"], int)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: is not the record of a run ({error})") from error
    if not known:
        raise UserError(f"{folder / 'config.json'}: its data set is unknown to this version")
    config |= {name: options[name] for name in ("data_dir", "cache_dir") if options[name] is not None}
    config |= {"valid_fraction": 0.0, "augment": NONE, "bad_files": "skip", "similar": False, "progress": True}
    config["duplicates"] = "keep" if config.get("duplicates") == "stop" else config.get("duplicates", "keep")
    return complete({**config, "threads": options["threads"]})


def _load(folder: Path, config: Mapping[str, Any]) -> Task:
    try:
        task = load_data(config, images=True)
    except UserError as error:
        raise UserError(f"review: the images of run {folder} cannot be loaded again: {error}") from error
    if task.train.shown.ndim != 4:
        raise UserError(f"review: {task.name} has no images to look at")
    return task


def _root(config: Mapping[str, Any]) -> Path | None:
    if config["dataset"] != "own_images":
        return None
    return Path(config["data_dir"]) if config["data_dir"] is not None else Path(str(config["labels"])).parent


def _likeness(task: Task, config: Mapping[str, Any], threads: int | None) -> Likeness:
    """By the features that the run was trained on, which are in its cache; else by coarse pixels."""
    shown = task.train.shown
    if config.get("features", NONE) != NONE:
        try:
            source = find_source(config["features"], config["data_dir"], config["cache_dir"], download=False)
        except UserError as error:
            say(f"review: images are compared by {PIXELS} ({error})")
        else:
            return Likeness(
                lambda: embedded(
                    [shown], source, 1, config["cache_dir"], pick_device("cpu"), workers=threads or cores()
                )[0][:, 0],
                f"features: {source.words}",
            )
    return Likeness(lambda: coarse(shown), PIXELS)


def _serve(server: Server, browser: bool) -> int:
    session, marks = server.session, server.session.marks
    for line in marks.notes:
        say(f"review: {line}")
    if missing := len(session.items) - len(session):
        say(f"review: {missing} of {len(session.items)} images are gone or were changed since; the page lists them")
    try:
        marks.save()
        print(f"{len(session)} images, {session.count()} of them marked; open in a browser on this machine:")
        print(f"    {server.address}")
        print(f"Marks are kept in {marks.result}. End with Ctrl-C.", flush=True)
        if browser:
            webbrowser.open(server.address)
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
    # Behind the ^C that a terminal shows.
    print(f"\nreview ended: {session.count()} of {len(session)} images marked, {marks.result}", flush=True)
    return 0
