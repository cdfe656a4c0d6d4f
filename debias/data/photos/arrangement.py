"""Which folders of the user's images are classes, which are parts (train, valid, test), and which are neither."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from debias.errors import UserError

PART_NAMES = {
    "train": "train", "training": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip
# What is written after a part's name without a gap: trainset, testdata.
_TAIL = re.compile(r"(set|data|images|imgs|split)$")


@dataclass(frozen=True)
class Arrangement:
    """How the folders around an image are read.

    around : folders around everything, from the outside
    parts : part by name of the folder below them; empty where there are no parts
    inner : whether each part has one more folder around its classes
    """

    around: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    inner: bool = False

    def place(self, name: str) -> tuple[str | None, str | None]:
        """(class, part) of a file by its name; None where it has none."""
        folders = name.split("/")[:-1]
        depth = len(self.around)
        if tuple(folders[:depth]) != self.around:
            return None, None
        folders = folders[depth:]
        part = self.parts.get(folders[0]) if folders else None
        if self.parts:
            folders = folders[1 + self.inner :] if part else []
        return (folders[0] if folders else None), part

    def notes(self) -> list[str]:
        """A line for the user where parts are not called by their usual names."""
        if all(top.lower() in PART_NAMES for top in self.parts):
            return []
        counts = Counter(self.parts.values())
        found = ", ".join(f"{counts[part]} {part}" for part in ("train", "valid", "test") if counts[part])
        return [f"folders read as parts, as their names begin or end so: {found}"]


def arranged(root: Path, images: Iterable[str]) -> Arrangement:
    """The arrangement of images, by their names below `root`.

    One folder around everything is passed through. Folders are parts when they are called so (train, training_set,
    seg_train) and hold folders, or when there are no others; a class may be called train.

    Raises
    ------
    UserError
        Folders that hold the same folders, without names of parts: either may be the classes.
    """
    paths = [tuple(name.split("/")[:-1]) for name in images]
    around: tuple[str, ...] = ()
    while len(tops := {path[0] for path in paths if path}) == 1:
        (top,) = tops
        if top.lower() in PART_NAMES or not any(len(path) > 1 for path in paths):
            break
        around, paths = (*around, top), [path[1:] for path in paths]
    below: dict[str, set[str]] = {top: set() for top in tops}
    flat = set()
    for path in paths:
        if len(path) > 1:
            below[path[0]].add(path[1])
        elif path:
            flat.add(path[0])
    named = {top: part for top in tops if (part := part_of(top)) is not None}
    if _are_parts(named, below):
        held = [paths_of for top in named if (paths_of := {path[1:] for path in paths if path and path[0] == top})]
        inner = all(len({path[:1] for path in found}) == 1 and all(len(path) > 1 for path in found) for found in held)
        return Arrangement(around, named, inner)
    shared = set.intersection(*below.values()) if len(below) > 1 and not flat else set()
    if len(shared) > 1 and all(found == shared for found in below.values()):
        raise UserError(
            f"{root.joinpath(*around)}: the folders {_some(tops)} all hold the folders {_some(shared)}, so it cannot "
            "be said which are the classes; call parts train, valid and test, or name the classes with labels=FILE.csv"
        )
    return Arrangement(around)


def part_of(name: str) -> str | None:
    """The part that a folder's name begins or ends with: training_set, seg_train, TestImages, val2017; or None."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())
    for word in (*words[:1], *words[-1:]):
        part = PART_NAMES.get(word) or PART_NAMES.get(_TAIL.sub("", word))
        if part is not None:
            return part
    return None


def _are_parts(named: Mapping[str, str], below: Mapping[str, set[str]]) -> bool:
    """Whether folders called like parts are parts.

    named : part by name; below : of every folder, the folders in it
    """
    plain = {top: part for top, part in named.items() if top.lower() in PART_NAMES}
    deep = {part for top, part in named.items() if below[top]}
    return (
        any(below[top] for top in plain)
        or len(deep) > 1
        or len(set(plain.values())) > 1
        # No other folders: images of parts, without classes, are not classes either.
        or (len(named) == len(below) and (bool(plain) or len(set(named.values())) > 1))
    )


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
