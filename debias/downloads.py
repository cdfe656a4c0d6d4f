"""Downloads that give up when nothing comes, and let one process at a time fetch a file."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

# Seconds without a byte. torch and torchvision set no limit: behind a firewall that drops packets they wait for ever.
TIMEOUT = 20


def fetch(folder: Path, name: str, download: Callable[[], Any]) -> str | None:
    """Call what downloads into a folder, which is made where it is not there.

    Parameters
    ----------
    name
        What is fetched; other processes that fetch it wait.

    Returns
    -------
    What went wrong in one line, or None.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{name}.lock"):
            download()
    except (ImportError, OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
    finally:
        socket.setdefaulttimeout(before)
    return None
