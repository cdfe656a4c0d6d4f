"""What one page is about: a run's images, how they look, which are alike, and their marks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from debias.data.reviewed import MARKS
from debias.review.items import Item
from debias.review.likeness import Likeness, has_umap
from debias.review.looks import Looks
from debias.review.marks import Marks
from debias.review.table import below


@dataclass
class Session:
    """title : what is looked at; classes : names in their order; items : all images of the table, in its order;
    root : the folder that their paths are shown below"""

    title: str
    classes: Sequence[str]
    items: Sequence[Item]
    looks: Looks
    likeness: Likeness
    marks: Marks
    root: Path | None = None

    def __post_init__(self) -> None:
        self._shown = [item for item in self.items if item.place is not None]
        self._places = {item.number: item.place for item in self._shown if item.place is not None}
        self._order = np.array(list(self._places.values()))

    def __len__(self) -> int:
        return len(self._shown)

    def has(self, number: int) -> bool:
        """Whether there is an image of that id to be looked at."""
        return number in self._places

    def state(self) -> dict[str, Any]:
        """All that the page shows but pictures: columns of the images in the order of the table, and their marks."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        return {
            "title": self.title,
            "classes": list(self.classes),
            "kinds": list(MARKS),
            "id": [item.number for item in self._shown],
            "target": [numbers.get(item.target, -1) for item in self._shown],
            "score": [round(item.score, 4) for item in self._shown],
            "rank": [item.rank for item in self._shown],
            "suspect": [int(item.suspect) for item in self._shown],
            "name": [below(item.file, self.root) or f"image {item.number}" for item in self._shown],
            "missing": [
                [below(item.path, self.root) or f"image {item.number}", item.why]
                for item in self.items
                if item.place is None
            ],
            "marks": self.marked(),
            "pixels": self.looks.side,
            "likeness": self.likeness.words,
            "umap": has_umap(),
            "result": str(self.marks.result),
        }

    def marked(self) -> list[list[Any]]:
        """Id, mark and right class, empty where it was not said, of every marked image."""
        return [[number, *mark] for number, mark in self.marks.as_dict().items()]

    def near(self, number: int) -> dict[str, Any]:
        """Distance of every image to one, in the order of the state."""
        distance = self.likeness.near(self._places[number])
        return {"distance": [round(float(value), 5) for value in distance[self._order]], "words": self.likeness.words}

    def map(self, way: str) -> dict[str, Any]:
        """Where every image lies, in the order of the state: x and y from 0 to 1."""
        if way == "umap" and not has_umap():
            raise ValueError("the package umap-learn is not installed")
        places = self.likeness.map(way)[self._order]
        return {"x": [round(float(x), 4) for x in places[:, 0]], "y": [round(float(y), 4) for y in places[:, 1]]}

    def picture(self, number: int, small: bool) -> tuple[bytes, str]:
        """The bytes of an image and their type."""
        place = self._places[number]
        return self.looks.thumbnail(place) if small else self.looks.whole(place)

    def count(self) -> int:
        """How many of the images that are shown have a mark."""
        return sum(number in self._places for number in self.marks.as_dict())
