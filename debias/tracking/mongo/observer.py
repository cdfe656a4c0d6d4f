"""Records runs in MongoDB beside their files, from a thread of its own: training never waits for the server."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError
from sacred.observers import FileStorageObserver, RunObserver

from debias.errors import UserError
from debias.tracking.mongo.address import Address, reason
from debias.tracking.mongo.mirror import Mirror


def _say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


class MongoMirror(RunObserver):
    """Keeps a database in step with the run folder that `files` writes.

    Events of the run only wake the thread. What it could not deliver when the run ends stays in the folder, for the
    command sync.

    Parameters
    ----------
    address
        The database.
    files
        The observer that writes the run folder.
    file_limit
        Bytes; larger files are not copied into the database.
    required
        Whether a server that does not answer at the start ends the run.

    Raises
    ------
    UserError
        With `required`, when the server cannot be used.
    """

    # After the files' observer, whose folder is read.
    priority = 10
    # Seconds between two deliveries, and between attempts to reach a lost server.
    pause, retry = 2.0, 5.0
    # Seconds that the end of a run waits for the last delivery, when the server answers and when it does not.
    patience, impatience = 60.0, 6.0

    def __init__(
        self,
        address: Address,
        files: FileStorageObserver,
        file_limit: int,
        required: bool = False,
        say: Callable[[str], None] = _say,
    ) -> None:
        self.address = address
        self.files = files
        self.file_limit = file_limit
        self.say = say
        self.number: int | None = None
        self._client = address.client()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._answering = True
        self._thread: threading.Thread | None = None
        try:
            self._client.admin.command("ping")
        except PyMongoError as error:
            if required:
                self._client.close()
                raise UserError(
                    f"MongoDB at {address}: {reason(error)}; start it, or set mongo_required=False to use files only"
                ) from None
            self._lost(error)

    def started_event(self, *args: Any, **about: Any) -> None:
        folder = Path(str(self.files.dir))
        mirror = Mirror(self._client[self.address.database], Path(self.files.basedir), self.file_limit)
        self._thread = threading.Thread(target=self._deliver, args=(mirror, folder), name="mongo", daemon=True)
        self._wake.set()
        self._thread.start()

    def heartbeat_event(self, *args: Any, **about: Any) -> None:
        self._wake.set()

    def artifact_event(self, *args: Any, **about: Any) -> None:
        self._wake.set()

    def join(self) -> None:
        """Wait a moment for the last delivery, and say where the run is or how it gets there."""
        if self._thread is None:
            return
        self._closing.set()
        self._wake.set()
        end = time.monotonic() + self.patience
        while self._thread.is_alive() and time.monotonic() < end:
            self._thread.join(timeout=0.1)
            if not self._answering:
                end = min(end, time.monotonic() + self.impatience)
        if self._thread.is_alive() or not self._answering:
            self.say(f"MongoDB at {self.address} has not got all of this run; `python main.py sync` brings the rest")
        else:
            self.say(f"MongoDB: run {self.number} in {self.address}")
        self._client.close()

    def _deliver(self, mirror: Mirror, folder: Path) -> None:
        waiting: float | None = None
        while True:
            self._wake.wait(timeout=waiting)
            self._wake.clear()
            # Read before the delivery: an end that comes during it asks for another one.
            closing = self._closing.is_set()
            try:
                self.number, _ = mirror.bring(folder)
                if not self._answering:
                    self.say(f"MongoDB at {self.address} answers again; the run is there as run {self.number}")
                self._answering, waiting = True, None
            except PyMongoError as error:
                if self._answering:
                    self._lost(error)
                waiting = self.retry
            except (OSError, ValueError, KeyError) as error:
                # The folder is written at this moment; at the end it is whole, or will not be.
                waiting = self.pause
                if closing:
                    self._lost(error)
            if closing:
                return
            self._closing.wait(timeout=self.pause)

    def _lost(self, error: Exception) -> None:
        self._answering = False
        self.say(
            f"MongoDB at {self.address}: {reason(error)}; the run continues and is kept in files, "
            "and gets there when the server is back or by `python main.py sync`"
        )
