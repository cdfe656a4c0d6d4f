"""Finished stages on disk, keyed by everything they depend on, and the checkpoints of unfinished ones."""

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from debias.digests import digest_of_file
from debias.errors import UserError
from debias.rawfiles import check_regular, read_regular
from debias.training.artifacts import Artifact, Checkpoint, Report, from_plain, take, to_plain

T = TypeVar("T")


class StageFolder:
    """Where one stage with one key lives: its checkpoint while it runs, its result when it is done.

    A result counts only when `done.json` is there, which is written last; every file is written under a temporary
    name, flushed to the disk and renamed, so that a machine lost in the middle leaves nothing half-written in use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load_result(self, gives: Sequence[str] | None = None) -> dict[str, Artifact] | None:
        """The stored artifacts by name, or None when the stage has not finished or its file is damaged.

        One of another shape than artifacts have today is damaged, too.

        gives : names of the artifacts that it must hold beside its report; None: whatever it holds
        """
        if not (self.path / "done.json").exists():
            return None
        path = self.path / "result.pt"
        try:
            about = json.loads(read_regular(self.path / "done.json"))
            check_regular(path)
            # Of another size it need not be read. Older stores do not say it.
            intact = path.stat().st_size == about.get("bytes", path.stat().st_size)
            intact = intact and digest_of_file(path) == about["sha256"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            warnings.warn(f"{path} is lost or damaged and is not used", stacklevel=2)
            return None
        return self._load("result.pt", lambda stored: _result(stored, gives))

    def save_result(self, result: Mapping[str, Artifact], about: Mapping[str, Any]) -> None:
        """Store a finished stage and drop its checkpoint."""
        self._save("result.pt", {name: to_plain(artifact) for name, artifact in result.items()})
        path = self.path / "result.pt"
        about = {**about, "sha256": digest_of_file(path), "bytes": path.stat().st_size}
        _write_atomically(self.path / "done.json", json.dumps(about, indent=1, default=str).encode())
        self.drop_checkpoint()

    def load_checkpoint(self) -> Checkpoint | None:
        """The last checkpoint of an unfinished stage, or None when there is none or it is damaged."""
        return self._checkpoint("checkpoint.pt")

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint."""
        self._save("checkpoint.pt", to_plain(checkpoint))
        (self.path / "pending.pt").unlink(missing_ok=True)

    def drop_checkpoint(self) -> None:
        """Forget the checkpoint: the stage starts over."""
        for name in ("checkpoint.pt", "pending.pt"):
            (self.path / name).unlink(missing_ok=True)

    def save_pending(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint beside the last one, until all that are trained together have theirs."""
        self._save("pending.pt", to_plain(checkpoint))

    def load_pending(self) -> Checkpoint | None:
        """The checkpoint that has not taken the place of the last one yet; None where there is none."""
        return self._checkpoint("pending.pt")

    def settle_pending(self) -> None:
        """Let it take the place of the last one."""
        (self.path / "pending.pt").replace(self.path / "checkpoint.pt")

    def clear(self) -> None:
        """Forget the result and the checkpoint."""
        for name in ("done.json", "result.pt"):
            (self.path / name).unlink(missing_ok=True)
        self.drop_checkpoint()

    @property
    def finished(self) -> bool:
        """Whether there is a result, as far as its folder says."""
        return (self.path / "done.json").exists()

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any((self.path / name).exists() for name in ("checkpoint.pt", "pending.pt"))

    def leftovers(self) -> list[Path]:
        """Files that a killed process was writing; while the stage is locked they may be a living one's."""
        return [path for path in self.path.glob(".*.pt.*") if path.is_file() and not path.is_symlink()]

    @contextlib.contextmanager
    def free(self) -> Iterator[bool]:
        """Keep every other process out of this stage, and say whether that was possible simultaneously."""
        lock = FileLock(self.path / "lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def discard(self) -> None:
        """Delete the folder, which the caller has locked; who waits for the lock makes it again."""
        shutil.rmtree(self.path)

    @contextlib.contextmanager
    def locked(self, say: Any = print) -> Iterator[None]:
        """Keep every other process out of this stage; wait, with a line saying so, while another one is in it."""
        lock = FileLock(self.path / "lock")
        timeout = 0
        while True:
            # The folder may have been discarded while this process waited.
            self.path.mkdir(exist_ok=True)
            try:
                lock.acquire(timeout=timeout)
                break
            except Timeout:
                say(f"another process is computing this stage; waiting for it ({self.path})")
                timeout = -1
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unwritable(self.path / "lock", error) from error
        try:
            self._sweep()
            yield
        finally:
            lock.release()

    def _sweep(self) -> None:
        """Remove what processes that were killed while they wrote have left; the caller holds the lock."""
        for name in ("checkpoint.pt", "pending.pt", "result.pt", "done.json"):
            for left in self.path.glob(f".{name}.*"):
                left.unlink(missing_ok=True)

    def _checkpoint(self, name: str) -> Checkpoint | None:
        if not (self.path / name).exists():
            return None
        return self._load(name, lambda plain: take({"it": from_plain(plain)}, "it", Checkpoint))

    def _load(self, name: str, made: Callable[[dict[str, Any]], T]) -> T | None:
        path = self.path / name
        try:
            if not path.is_file():
                raise OSError("no regular file")
            return made(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # whatever a damaged file raises, the stage can be computed again
            warnings.warn(f"{path} cannot be read ({type(error).__name__}) and is not used", stacklevel=2)
            return None

    def _save(self, name: str, plain: dict[str, Any]) -> None:
        with _temporary_beside(self.path / name) as handle:
            torch.save(plain, handle)


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
                warnings.warn(f"{path} is not a folder; it is put aside as {aside.name}", stacklevel=2)
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error
        return StageFolder(path)


def _result(stored: Any, gives: Sequence[str] | None) -> dict[str, Artifact]:
    """The artifacts of a stored stage; any error for what is none."""
    found = {name: from_plain(plain) for name, plain in stored.items()}
    if gives is not None:
        if missing := [name for name in gives if name not in found]:
            raise ValueError(f"no {missing[0]}")
        report = take(found, "report", Report)
        if not all(isinstance(row, Mapping) and "epoch" in row for row in report.history):
            raise ValueError("a history of something else")
    return found


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


def _write_atomically(path: Path, content: bytes) -> None:
    with _temporary_beside(path) as handle:
        handle.write(content)
