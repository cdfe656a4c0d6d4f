"""Finished stages on disk, keyed by everything they depend on, and the checkpoints of unfinished ones."""

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from digests import digest_of_file
from errors import UserError


class StageFolder:
    """Where one stage with one key lives: its checkpoint while it runs, its result when it is done.

    A result counts only when `done.json` is there, which is written last; every file is written under a temporary
    name, flushed to the disk and renamed, so that a machine lost in the middle leaves nothing half-written in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load_result(self, gives: Sequence[str] | None = None) -> dict[str, Any] | None:
        """The stored result, or None when the stage has not finished, or its file is damaged or not its result.

        gives : names of the artifacts that it must hold beside its report; None: whatever it holds
        """
        if not (self.path / "done.json").exists():
            return None
        try:
            about = json.loads((self.path / "done.json").read_text(encoding="utf-8"))
            intact = digest_of_file(self.path / "result.pt") == about["sha256"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            intact = False
        if not intact:
            warnings.warn(f"{self.path / 'result.pt'} is lost or damaged and is not used", stacklevel=2)
            return None
        result = self._load("result.pt")
        if result is not None and gives is not None and not _is_result(result, gives):
            warnings.warn(f"{self.path / 'result.pt'} is no result of this stage and is not used", stacklevel=2)
            return None
        return result

    def save_result(self, result: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Store a finished stage and drop its checkpoint."""
        self._save("result.pt", dict(result))
        about = {**about, "sha256": digest_of_file(self.path / "result.pt")}
        _write_atomically(self.path / "done.json", json.dumps(about, indent=1, default=str).encode())
        self.drop_checkpoint()

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint of an unfinished stage, or None when there is none or it is damaged."""
        return self._load("checkpoint.pt") if (self.path / "checkpoint.pt").exists() else None

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint."""
        self._save("checkpoint.pt", dict(state))

    def drop_checkpoint(self) -> None:
        """Forget the checkpoint: the stage starts over."""
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget the result and the checkpoint."""
        for name in ("done.json", "result.pt", "checkpoint.pt"):
            (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, say: Any = print) -> Iterator[None]:
        """Keep every other process out of this stage; wait, with a line saying so, while another one is in it."""
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process is computing this stage; waiting for it ({self.path})")
            lock.acquire()
        except OSError as error:
            raise _unwritable(self.path / "lock", error) from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove what processes that were killed while they wrote have left; the caller holds the lock."""
        for name in ("checkpoint.pt", "result.pt", "done.json"):
            for left in self.path.glob(f".{name}.*"):
                left.unlink(missing_ok=True)

    def _load(self, name: str) -> dict[str, Any] | None:
        path = self.path / name
        try:
            if not path.is_file():
                raise OSError("no regular file")
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file raises, the stage can be computed again
            warnings.warn(f"{path} cannot be read ({type(error).__name__}) and is not used", stacklevel=2)
            return None

    def _save(self, name: str, value: Mapping[str, Any]) -> None:
        with _temporary_beside(self.path / name) as handle:
            torch.save(dict(value), handle)


class Store:
    """The folder of all stages.

    Raises
    ------
    UserError
        When the folder cannot be written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root):
                pass
        except OSError as error:
            raise UserError(f"store={root}: cannot be written to ({error.strerror}); give another folder") from error

    def folder(self, stage: str, key: str) -> StageFolder:
        """The folder of one stage under one key; made when it is not there."""
        path = self.root / f"{stage}-{key}"
        try:
            if not path.is_dir() and (path.exists() or path.is_symlink()):
                aside = path.with_name(f"{path.name}.damaged")
                path.replace(aside)
                warnings.warn(f"{path} is no folder; it is put aside as {aside.name}", stacklevel=2)
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error
        return StageFolder(path)


@contextlib.contextmanager
def _temporary_beside(path: Path) -> Iterator[Any]:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error
    except RuntimeError as error:
        temporary.unlink(missing_ok=True)
        # torch's writer of archives does not say what the system told it.
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        raise UserError(f"{path} cannot be written; is the disk full?") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written ({error.strerror or error}); is the disk full?")


def _is_result(value: Any, gives: Sequence[str]) -> bool:
    """Whether a file holds what a stage gives, as far as its form tells."""
    if not isinstance(value, dict) or not isinstance(value.get("report"), dict):
        return False
    report = value["report"]
    forms = {"history": list, "summary": dict, "matrices": dict}
    rows = report.get("history")
    return (
        all(isinstance(report.get(name), form) for name, form in forms.items())
        and all(isinstance(row, dict) and "epoch" in row for row in rows or [])
        and all(name in value for name in gives)
    )


def _write_atomically(path: Path, content: bytes) -> None:
    with _temporary_beside(path) as handle:
        handle.write(content)
