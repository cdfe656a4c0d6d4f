"""Arrays built once and kept on disk: one folder of .npy files and a meta.json per key."""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from debias.digests import digest_of
from debias.errors import UserError
from debias.rawfiles import read_regular

Arrays = dict[str, np.ndarray]
_noted: ContextVar[set[str] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def noting() -> Iterator[set[str]]:
    """Gives the names of the cache's folders that are used inside; a run's record says them, so that no set which a run
    refers to is taken for a leftover."""
    names: set[str] = set()
    token = _noted.set(names)
    try:
        yield names
    finally:
        _noted.reset(token)


def note(name: str) -> None:
    """Say that a folder of the cache is used (`noting`)."""
    if (names := _noted.get()) is not None:
        names.add(name)


def key_of(**fields: str | int | float | bool | None) -> str:
    """Hex digest of named values; any change of a name or value changes it."""
    return digest_of([json.dumps(fields, sort_keys=True).encode()])


def cached(cache_dir: str | Path, name: str, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored under `key`, building and storing them first where they are not.

    The folder is filled under a temporary name and renamed, so it is there whole or not at all; a file lock makes
    processes that want the same key build it once. Folders are recognised by `key` (hex), `name` is for readers.
    A stored set whose sizes, shapes, types or key are wrong is rebuilt with a warning; contents are not re-hashed.

    Returns the arrays memory-mapped and read-only.

    Raises
    ------
    UserError
        `cache_dir` cannot be written to.
    """

    def write(folder: Path) -> None:
        for array_name, array in build().items():
            np.save(folder / f"{array_name}.npy", array, allow_pickle=False)

    return cached_files(cache_dir, name, key, write)


def cached_files(
    cache_dir: str | Path,
    name: str,
    key: str,
    write: Callable[[Path], None],
    check: Callable[[Arrays], str | None] = lambda arrays: None,
) -> Arrays:
    """Like `cached`, for arrays that need not fit in memory: `write` puts .npy files into the folder it is given.

    check : says in a few words what is wrong with the stored contents, or None; what is wrong is built again
    """
    folder = Path(cache_dir) / f"{name}-{key[:20]}"
    note(folder.name)
    found = _open(folder, key, check)
    if isinstance(found, dict):
        _clear_partial(folder)
        return found
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        lock.acquire()
    except OSError as error:
        raise _unwritable(cache_dir, error) from error
    try:
        return _build(folder, key, write, check)
    finally:
        lock.release()


def _clear_partial(folder: Path) -> None:
    """Remove what a killed process has left beside a finished cache, unless somebody is building there."""
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists():
        with contextlib.suppress(OSError, Timeout), FileLock(folder.with_name(folder.name + ".lock"), timeout=0):
            _remove(partial)


def new_array(file: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Make a .npy file and map it for writing. Its space is reserved now: a full disk is an OSError here, and not a
    signal that kills the process at some later write."""
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    with file.open("r+b") as handle:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)
    return array


def _build(folder: Path, key: str, write: Callable[[Path], None], check: Callable[[Arrays], str | None]) -> Arrays:
    """Build and store; the caller holds the lock."""
    # Another process may have finished while this one waited.
    found = _open(folder, key, check)
    if isinstance(found, dict):
        return found
    if found is not None:
        warnings.warn(f"{folder} is damaged ({found}): building it again", stacklevel=4)
    try:
        _write(folder, key, write)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error
    found = _open(folder, key, check)
    if not isinstance(found, dict):
        raise UserError(
            f"{folder} cannot be read back after writing ({found}): check the disk or choose another cache_dir"
        )
    return found


def _write(folder: Path, key: str, write: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    # Whoever left it was killed: the lock is ours.
    _remove(partial)
    partial.mkdir()
    try:
        write(partial)
        entries = {}
        for file in sorted(partial.glob("*.npy")):
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            entries[file.stem] = {
                "shape": list(array.shape),
                "dtype": array.dtype.str,
                "bytes": file.stat().st_size,
            }
            # Renamed before its contents are on the disk, a folder would look whole after a power cut.
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        (partial / "meta.json").write_text(json.dumps({"key": key, "arrays": entries}, indent=1), encoding="utf-8")
        _remove(folder)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _open(folder: Path, key: str, check: Callable[[Arrays], str | None]) -> Arrays | str | None:
    """Return the arrays, None where nothing is stored, or what is wrong with what is."""
    if not folder.exists():
        return None
    try:
        meta: dict[str, Any] = json.loads(read_regular(folder / "meta.json"))
        if meta["key"] != key:
            return "meta.json holds another key"
        arrays = {}
        for name, entry in meta["arrays"].items():
            file = folder / f"{name}.npy"
            if file.stat().st_size != entry["bytes"]:
                return f"{file.name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
                return f"{file.name} is {array.dtype} {list(array.shape)}"
            arrays[name] = array
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return check(arrays) or arrays


def _unwritable(cache_dir: str | Path, error: OSError) -> UserError:
    return UserError(
        f"cache_dir {Path(cache_dir).absolute()} cannot be written to ({error.strerror or error}): "
        "free some space, fix its permissions or choose another cache_dir"
    )
