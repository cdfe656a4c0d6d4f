"""Where Sacred records runs, and what it says while it does."""

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from sacred.dependencies import get_digest
from sacred.observers import FileStorageObserver, RunObserver
from sacred.run import Run
from sacred.serializer import flatten

from debias.errors import UserError
from debias.rawfiles import replaced_whole
from debias.redaction import redact
from debias.tracking.mongo.address import Address, from_environment, parse_address

# Bytes of captured output that are kept; Sacred leaves a run with more than 16 MB running for ever.
OUTPUT_LIMIT = 1_000_000
_CUT = "\n(the output beyond 1 MB is not kept)\n"


class RunFiles(FileStorageObserver):
    """Sacred's observer of run folders; on a full disk no half-written file takes the place of a whole one.

    lost : whether anything could not be written; Sacred goes on then (`check_kept`), and of how a run ended it would
        print a traceback
    """

    lost = False

    def save_json(self, obj: Any, filename: str) -> None:
        path = Path(str(self.dir)) / filename
        with self._noted(), replaced_whole(path) as partial:
            partial.write_text(json.dumps(flatten(obj), sort_keys=True, indent=2), encoding="utf-8")

    def save_file(self, filename: str, target_name: str | None = None) -> None:
        """An artifact: nobody must take half of the weights for all of them."""
        path = Path(str(self.dir)) / (target_name or Path(filename).name)
        if path.exists() and path.samefile(filename):
            return
        with self._noted(), replaced_whole(path) as partial:
            shutil.copyfile(filename, partial)

    def save_cout(self) -> None:
        # A name that is not a text can stand in the output.
        self.cout = self.cout.encode("utf-8", "backslashreplace").decode("utf-8")
        with self._noted():
            super().save_cout()

    def completed_event(self, *about: Any, **more: Any) -> None:
        with contextlib.suppress(OSError):
            super().completed_event(*about, **more)

    def interrupted_event(self, *about: Any, **more: Any) -> None:
        with contextlib.suppress(OSError):
            super().interrupted_event(*about, **more)

    def failed_event(self, *about: Any, **more: Any) -> None:
        with contextlib.suppress(OSError):
            super().failed_event(*about, **more)

    def find_or_save(self, filename: str, store_dir: Path) -> Path:
        """A source file under a name with its digest; what stands there is trusted, so it is put there whole."""
        source, store_dir = Path(filename), Path(store_dir)
        store_dir.mkdir(parents=True, exist_ok=True)
        path = store_dir / f"{source.stem}_{get_digest(filename)}{source.suffix}"
        if not path.exists():
            with replaced_whole(path) as partial:
                shutil.copyfile(filename, partial)
        return path

    @contextlib.contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.lost = True
            raise


def check_kept(run: Run) -> None:
    """End a run whose files could not be written as a failed one: Sacred would go on without them, and say completed.

    Also of one that is over: what is written last may be what found no room. Its record is changed where there is some.

    Raises
    ------
    UserError
    """
    lost = [observer for observer in run.observers if isinstance(observer, RunFiles) and observer.lost]
    for files in lost if run.status == "COMPLETED" else ():
        files.failed_event(run.stop_time, ["files of the run could not be written"])
    if lost:
        raise UserError(
            f"{lost[0].dir}: the run's files could not be written; is the disk full? When there is room, the same "
            "command goes on where it was"
        )


def file_observer(store: str) -> FileStorageObserver:
    """The observer that writes <store>/<id>/ for each run.

    Raises
    ------
    UserError
        When the folder cannot be made.
    """
    try:
        Path(store).mkdir(parents=True, exist_ok=True)
        return RunFiles(store)
    except OSError as error:
        raise UserError(f"store={store}: cannot be written to ({error.strerror}); give another folder") from error


def _database(config: Mapping[str, Any], files: FileStorageObserver, address: Address | None) -> RunObserver | None:
    if address is None:
        return None
    from debias.tracking.mongo.observer import MongoMirror  # loads the driver, which other runs do not need

    return MongoMirror(address, files, int(config["mongo_file_mb"] * 2**20), required=config["mongo_required"])


# Trackers beside the run's folder: each makes an observer (Sacred's `RunObserver`) from the settings, the observer that
# writes the folder, and the address of a database; None where it has nothing to do. A new one is its file and a line.
Tracker = Callable[[Mapping[str, Any], FileStorageObserver, Address | None], RunObserver | None]
TRACKERS: list[Tracker] = [
    _database,
]


def observers_of(config: Mapping[str, Any], address: Address | None) -> list[RunObserver]:
    """The files' observer and those of the trackers that have something to do."""
    files = file_observer(config["store"])
    found = (tracker(config, files, address) for tracker in TRACKERS)
    return [files, *(observer for observer in found if observer is not None)]


def take_address(updates: MutableMapping[str, Any], options: MutableMapping[str, Any]) -> Address | None:
    """The database a run is recorded in: of -m, of the setting mongo_url, or of the variable MONGO_URL.

    In `updates` and `options`, which are recorded, what may be shown takes its place.

    Raises
    ------
    UserError
        When it is not an address.
    """
    address = None
    given = updates.get("mongo_url")
    if isinstance(given, str):
        address = parse_address(given)
        updates["mongo_url"] = str(address)
    if options.get("--mongo_db"):
        # Sacred's own observer must not see the option: it waits for the server, and appends what it sends.
        address = parse_address(str(options.pop("--mongo_db")), "-m")
    if options.get("UPDATE"):
        options["UPDATE"] = [redact(word) for word in options["UPDATE"]]
    return address or from_environment()


def kept_output(text: str) -> str:
    """Captured output as it is recorded: no secrets of an address, at most 1 MB, its beginning."""
    text = redact(text)
    if len(text) * 4 > OUTPUT_LIMIT:
        raw = text.encode("utf-8", "replace")
        if len(raw) > OUTPUT_LIMIT:
            # Sacred filters what it has filtered before, and appends what is new: cut text must stay as it is.
            return raw[: OUTPUT_LIMIT - len(_CUT)].decode("utf-8", "ignore") + _CUT
    return text


def quiet_logger() -> logging.Logger:
    """Sacred's logger, for warnings only: the program says itself what it does."""
    logger = logging.getLogger("debias")
    logger.setLevel(logging.WARNING)
    # A new handler each time: it writes to what standard error is now.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    # The program ends failed runs with a line of its own, and checks types itself. The filter is the handler's, as a
    # logger does not filter what comes from its children.
    said = (
        "Failed after", "Aborted after", "Changed type", "Traceback (most recent call last)",
        f"The observer '<{__name__}.RunFiles",
    )  # fmt: skip
    handler.addFilter(lambda record: not str(record.msg).startswith(said))
    logger.handlers[:] = [handler]
    return logger
