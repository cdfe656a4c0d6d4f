"""A list of image files with their labels, as a layout, a CSV or class folders give it, before anything is decoded."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from debias.data.photos.archives import Files
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.harmless import cell
from debias.randomness import stream

SHOWN = 20
PARTS = ("train", "valid", "test")


class Item(NamedTuple):
    """name : in its `Files`; bias : None where it is unknown."""

    name: str
    target: int
    bias: int | None


class Problem(NamedTuple):
    """A file that cannot be used, or a line of a CSV, and why."""

    path: str
    what: str


@dataclass
class Block:
    """Images of one part that are decoded, and cached, together.

    Blocks of a part follow each other in order; an image's id is its position in them.
    """

    part: str
    items: list[Item]
    preparation: Preparation


@dataclass
class Listing:
    """All images of a data set.

    bias_names : None where biases are unknown
    notes : lines for the user, about how the images were divided
    ties : as in `data.split.Task`
    """

    files: Files
    blocks: list[Block]
    target_names: tuple[str, ...]
    bias_names: tuple[str, ...] | None
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ties: np.ndarray | None = None

    def count(self, part: str) -> int:
        return sum(len(block.items) for block in self.blocks if block.part == part)

    def limited(self, limit: int, seed: int) -> Listing:
        """Keep `limit` random training images and limit // 6 random others of each other part, or all if fewer."""
        if limit < 6:
            raise UserError(f"limit={limit}: at least 6 training images, so that limit // 6 test images are left")
        blocks = []
        for part in PARTS:
            keep = limit if part == "train" else limit // 6
            chosen = torch.randperm(self.count(part), generator=stream(seed, f"limit {part}"))[:keep]
            wanted, start = set(chosen.tolist()), 0
            for block in self.blocks:
                if block.part == part:
                    items = [item for place, item in enumerate(block.items, start) if place in wanted]
                    start += len(block.items)
                    blocks.append(Block(part, items, block.preparation))
        return replace(self, blocks=blocks)


def settle(problems: Sequence[Problem], rule: str, what: str, setting: str, cache_dir: Path) -> list[str]:
    """Lines for the user about files that are left out.

    Parameters
    ----------
    problems
        What was found; nothing is said of no problem.
    rule
        stop or skip.
    what
        What the problems are, as in "broken files".
    setting
        Name of the setting whose value `rule` is.
    cache_dir
        Where the whole list is written, when it is too long to show.

    Raises
    ------
    UserError
        The list, with rule stop.
    """
    if not problems:
        return []
    lines = [f"  {problem.path}: {problem.what}" for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"  and {len(problems) - SHOWN} more; all of them: {write_problems(problems, what, cache_dir)}")
    if rule == "stop":
        head = f"{len(problems)} {what}:"
        raise UserError("\n".join([head, *lines, f"Fix or remove them, or set {setting}=skip to leave them out"]))
    return [f"{len(problems)} {what} left out ({setting}=skip):", *lines]


def write_problems(problems: Iterable[Problem], what: str, cache_dir: Path) -> Path:
    """Write all problems as a CSV of paths and reasons; returns its path."""
    path = cache_dir / f"{what.replace(' ', '-')}.csv"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(Problem._fields)
            writer.writerows((cell(problem.path), cell(problem.what)) for problem in problems)
    except OSError as error:
        raise UserError(f"cache_dir {cache_dir} cannot be written to ({error.strerror or error})") from error
    return path
