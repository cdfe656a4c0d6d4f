"""What a store of runs and a cache hold, by kind, and what of it nothing refers to."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from debias.errors import UserError
from debias.tracking.folders import read_json, read_runs
from debias.training.store import StageFolder

RUN = "runs"
SOURCES = "source files of runs"
STAGE = "finished stages"
UNREFERENCED = "finished stages that no run refers to"
WORKING = "stages that are being computed"
CHECKPOINT = "checkpoints of dead runs"
LEFTOVER = "leftovers of killed processes"
SWEEP = "sweeps and searches"
BUILT = "built data sets"
UNUSED = "built data sets that no run refers to"
DOWNLOAD = "downloads"
OTHER = "other files"


@dataclass(frozen=True)
class Holding:
    """A file or folder of one kind, with the bytes that it takes on the disk."""

    kind: str
    path: Path
    size: int


@dataclass
class References:
    """What runs say they need: folders of stages and of the cache, by name.

    damaged : runs that cannot be read, so that nobody knows what they need
    sweeping : a sweep is at work, whose finished stages may not be recorded yet
    since : when the oldest run at work began, as seconds since 1970; stages that are newer count as needed
    """

    stages: set[str] = field(default_factory=set)
    cached: set[str] = field(default_factory=set)
    damaged: list[Path] = field(default_factory=list)
    sweeping: bool = False
    since: float = float("inf")


def references_of(store: Path) -> References:
    """What the runs of a store refer to."""
    found = References()
    read = {record.folder: record for record in read_runs(store)}
    for folder in _folders(store):
        if not folder.name.isdigit():
            continue
        record = read.get(folder)
        if record is None:
            if not _of_another_program(folder):
                found.damaged.append(folder)
            continue
        if record.status == "RUNNING" and record.started:
            started = datetime.fromisoformat(record.started).replace(tzinfo=UTC).timestamp()
            found.since = min(found.since, started)
        try:
            stages = {name: about["key"] for name, about in record.info.get("stages", {}).items()}
            stages |= record.info.get("begun", {})
            found.stages |= {f"{name}-{key}" for name, key in stages.items()}
            found.cached |= set(record.info.get("data", {}).get("cached", ()))
        except (TypeError, AttributeError, KeyError):
            found.damaged.append(folder)
    found.sweeping = any(_is_held(lock) for lock in _files(store / "sweeps") if lock.suffix == ".lock")
    return found


def holdings_of(store: Path, references: References) -> Iterator[Holding]:
    """What a store holds; links are not followed.

    Raises
    ------
    UserError
        There is no such folder.
    """
    if not store.is_dir():
        raise UserError(f"--store {store}: there is no such folder")
    for path in _entries(store):
        if path.name == "stages" and _is_folder(path):
            for stage in _entries(path):
                yield from _stage(stage, references)
        elif _is_folder(path) and path.name.isdigit():
            yield Holding(RUN, path, _size(path))
        else:
            yield Holding({"sweeps": SWEEP, "_sources": SOURCES}.get(path.name, OTHER), path, _size(path))


def cache_of(cache: Path, used: set[str]) -> Iterator[Holding]:
    """What a cache holds; `used` names the built data sets that runs refer to. Nothing where there is no cache."""
    for path in _entries(cache) if cache.is_dir() else ():
        size = _size(path)
        if path.suffix == ".lock":
            continue
        if path.suffix == ".partial":
            held = _is_held(path.with_suffix(".lock"))
            yield Holding(WORKING if held else LEFTOVER, path, size)
        elif path.name == "downloads":
            yield Holding(DOWNLOAD, path, size)
        elif _is_folder(path) and (path / "meta.json").is_file():
            yield Holding(BUILT if path.name in used else UNUSED, path, size)
        else:
            yield Holding(OTHER, path, size)


def remove(holding: Holding, references: References) -> bool:
    """Remove a holding under its lock; False where another process has it, or where it is something else by now.

    Raises
    ------
    UserError
        It cannot be removed.
    """
    path = holding.path
    try:
        if holding.kind in (UNREFERENCED, CHECKPOINT) or (holding.kind == LEFTOVER and path.parent.name == "stages"):
            folder = StageFolder(path)
            with folder.free() as free:
                if not free or _kind_of(folder, references) != holding.kind:
                    return False
                folder.discard()
        elif holding.kind == LEFTOVER and path.suffix != ".partial":
            with StageFolder(path.parent).free() as free:
                if free:
                    path.unlink(missing_ok=True)
                return free
        else:
            lock = path.with_name(path.name.removesuffix(".partial") + ".lock")
            try:
                with FileLock(lock).acquire(timeout=0):
                    shutil.rmtree(path)
                    # Who waits for it notices that it is gone, and makes another one.
                    lock.unlink()
            except Timeout:
                return False
    except OSError as error:
        raise UserError(f"{path}: cannot be removed ({error.strerror or error})") from error
    return True


def _stage(path: Path, references: References) -> Iterator[Holding]:
    if not _is_folder(path) or not (path / "lock").exists():
        yield Holding(OTHER, path, _size(path))
        return
    folder = StageFolder(path)
    with folder.free() as free:
        if not free:
            yield Holding(WORKING, path, _size(path))
            return
        left = [Holding(LEFTOVER, file, _size(file)) for file in folder.leftovers()]
        kind = _kind_of(folder, references)
        size = _size(path)
    if kind in (STAGE, CHECKPOINT):
        yield from left
        size -= sum(holding.size for holding in left)
    yield Holding(kind, path, size)


def _kind_of(folder: StageFolder, references: References) -> str:
    """Of the folder of a stage that nobody is computing."""
    if not folder.finished:
        # A lock alone is what a stage leaves that failed before its first checkpoint.
        return CHECKPOINT if folder.begun else LEFTOVER
    needed = folder.path.name in references.stages or references.sweeping or bool(references.damaged)
    needed = needed or (folder.path / "done.json").stat().st_mtime >= references.since
    return STAGE if needed else UNREFERENCED


def _of_another_program(folder: Path) -> bool:
    try:
        config = read_json(folder / "config.json")
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and not {"dataset", "method"} <= config.keys()


def _is_held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with contextlib.suppress(OSError):
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            return True
    return False


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if _is_folder(path)]


def _files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_file() and not path.is_symlink()]


def _is_folder(path: Path) -> bool:
    """A link is none: what it leads to may be anywhere."""
    return path.is_dir() and not path.is_symlink()


def _size(path: Path) -> int:
    """Bytes on the disk of a file, or of all below a folder; what vanishes meanwhile counts as none."""
    total = 0
    with contextlib.suppress(OSError):
        total += path.lstat().st_blocks * 512
        if _is_folder(path):
            for root, folders, files in os.walk(path):
                for name in (*folders, *files):
                    with contextlib.suppress(OSError):
                        total += Path(root, name).lstat().st_blocks * 512
    return total
