"""Digests by which files, arrays and settings are known again. Imports nothing of the project."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """A hex name of plain data (dicts, lists, numbers, texts), 16 characters long: equal data, equal name."""
    return digest_of([json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()])[:16]


def digest_of(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 in hex of all parts, one behind the other."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 in hex of a file, which need not fit in memory; what cannot be read is an OSError."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
