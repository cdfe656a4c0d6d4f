"""Where Sacred records runs, and what it says while it does."""

import logging
from pathlib import Path

from sacred.observers import FileStorageObserver

from errors import UserError


def file_observer(store: str) -> FileStorageObserver:
    """The observer that writes <store>/<id>/ for each run.

    Raises
    ------
    UserError
        When the folder cannot be made.
    """
    try:
        Path(store).mkdir(parents=True, exist_ok=True)
        return FileStorageObserver(store)
    except OSError as error:
        raise UserError(f"store={store}: cannot be written to ({error.strerror}); give another folder") from error


def quiet_logger() -> logging.Logger:
    """Sacred's logger, for warnings only: the program says itself what it does."""
    logger = logging.getLogger("debias")
    logger.setLevel(logging.WARNING)
    # A new handler each time: it writes to what standard error is now.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    # The program ends failed runs with a line of its own, and checks types itself. The filter is the handler's, as a
    # logger does not filter what comes from its children.
    said = ("Failed after", "Aborted after", "Changed type")
    handler.addFilter(lambda record: not str(record.msg).startswith(said))
    logger.handlers[:] = [handler]
    return logger
