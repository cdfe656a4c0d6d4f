"""A reviewed.csv as `labels`: images that were marked are left out, and files that were moved are found again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from debias.data.photos.archives import is_image_name
from debias.data.photos.decode import digest
from debias.data.reviewed import MARK, MARKS, WAS, left_out
from debias.errors import UserError
from debias.harmless import uncell
from debias.rawfiles import read_regular
from debias.settings import nearest

# Columns that it has beside those of any table of labels.
MARKED = (MARK, WAS, "content")

Lines = Sequence[tuple[int, dict[str, str]]]


class Reviewed:
    """A table of labels by its marks; one without a column of marks is as it is.

    kept : its lines, with their numbers, but for those that are left out

    Parameters
    ----------
    table, folder
        What the table is called, and what its paths are below.
    lines
        Its lines with their numbers, names of columns in small letters.

    Raises
    ------
    UserError
        A mark that is not known, or every image is left out.
    """

    def __init__(self, table: str, folder: Path, lines: Lines) -> None:
        self._folder, self._marked = folder, MARK in lines[0][1]
        self.kept = list(lines)
        self._out: Counter[str] = Counter()
        self._moved: dict[str, str] = {}
        if not self._marked:
            return
        self.kept = []
        for number, line in lines:
            mark = line.get(MARK, "").strip()
            if mark and mark not in MARKS:
                raise UserError(
                    f"{table}, line {number}: mark {mark!r} is none of {', '.join(MARKS)}{nearest(mark, MARKS)}"
                )
            if left_out(mark, line.get(WAS, "").strip()):
                self._out[mark] += 1
            else:
                self.kept.append((number, {**line, "target": uncell(line["target"])}))
        if not self.kept:
            raise UserError(f"{table}: every image is marked as one to leave out")
        self._find()

    def path(self, line: Mapping[str, str]) -> str:
        """Where the file of a line is, below the folder."""
        name = line["path"].strip()
        return self._moved.get(name, uncell(name)) if self._marked else name

    def notes(self) -> list[str]:
        """Lines for the user."""
        said = [f"{count} images marked {mark} are left out" for mark, count in sorted(self._out.items())]
        if self._moved:
            said.append(f"{len(self._moved)} files were moved since they were reviewed, and are known by their content")
        return said

    def _find(self) -> None:
        """Look for files that are not where they were, by content; only then are files read."""
        named = {uncell(line["path"].strip()) for _, line in self.kept}
        gone = [line for _, line in self.kept if line.get("content") and not self._is_there(line)]
        if not gone:
            return
        places: dict[str, list[str]] = {}
        for folder, _, names in os.walk(self._folder):
            for name in filter(is_image_name, names):
                path = Path(folder, name)
                below = path.relative_to(self._folder).as_posix()
                if below in named:
                    continue
                try:
                    content = digest(read_regular(path)).tobytes().hex()
                except (OSError, ValueError):
                    continue
                places.setdefault(content, []).append(below)
        for line in gone:
            found = places.get(line["content"], [])
            if len(found) == 1:
                self._moved[line["path"].strip()] = found[0]

    def _is_there(self, line: Mapping[str, str]) -> bool:
        try:
            return (self._folder / uncell(line["path"].strip())).is_file()
        except (OSError, ValueError):
            return False
