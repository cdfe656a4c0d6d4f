"""Image files known again, by path or by content, when others have come, gone or been moved since a table was made."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

CHANGED, GONE = "changed", "gone"


class Found(NamedTuple):
    """number : of the file now, None where it is not there; why : then CHANGED or GONE"""

    number: int | None
    why: str = ""


class KnownFiles:
    """Files by path and by content. Positions say nothing: one file more or less moves all that come after it.

    Parameters
    ----------
    files
        Paths, by number.
    digests
        Hex digests of their contents; None where these are not known.
    numbers
        Which of them there are.
    """

    def __init__(self, files: Sequence[str], digests: Sequence[str] | None, numbers: Sequence[int]) -> None:
        self._files, self._numbers = files, numbers
        self._digests = digests or [""] * len(files)
        self._by_path = {files[number]: number for number in numbers}
        self._by_content: dict[str, list[int]] = {}
        for number in numbers:
            self._by_content.setdefault(self._digests[number], []).append(number)

    def find(self, path: str, content: str = "") -> Found:
        """The file that a row of a table is about.

        path : as it was, or the end of it below the data's folder; content : hex digest, empty where it is not known
        """
        named = [self._by_path[path]] if path in self._by_path else self._by_end.get(path, [])
        same = [n for n in named if not content or not self._digests[n] or self._digests[n] == content]
        moved = self._by_content.get(content, []) if content else []
        for numbers in (same, moved):
            if len(numbers) == 1:
                return Found(numbers[0])
        return Found(None, CHANGED if named and not same else GONE)

    @functools.cached_property
    def _by_end(self) -> Mapping[str, list[int]]:
        """Numbers of the files by every end of their paths that begins at a folder."""
        found: dict[str, list[int]] = {}
        for number in self._numbers:
            rest = self._files[number].replace("\\", "/")
            while "/" in rest:
                rest = rest.partition("/")[2]
                found.setdefault(rest, []).append(number)
        return found
