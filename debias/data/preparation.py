"""How images of any size become squares of one size."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from debias.vocabulary import FRAMINGS as FRAMINGS


@dataclass(frozen=True)
class Preparation:
    """How an image of any size becomes a square of `size` pixels.

    framing : crop (the middle square), stretch, or pad (all of it, black bars)
    margin : with crop, the side of the middle square is the shorter side of the image divided by this; 256/224 is the
        usual way to prepare test images
    """

    size: int
    framing: str = "crop"
    margin: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
