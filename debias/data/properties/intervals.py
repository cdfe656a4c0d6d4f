"""Shares of so many pairs or images, with their intervals."""

import math
from dataclasses import dataclass

Z = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, in [0, 1]; hits need not be whole where they are expectations."""

    hits: float
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n if self.n else 0.0

    @property
    def low(self) -> float:
        return self._bounds()[0]

    @property
    def high(self) -> float:
        return self._bounds()[1]

    def _bounds(self) -> tuple[float, float]:
        """Wilson's interval (1927), 95 %: it keeps within [0, 1] and holds for few pairs too."""
        if not self.n:
            return 0.0, 1.0
        p, z2 = self.value, Z * Z
        middle = (p + z2 / (2 * self.n)) / (1 + z2 / self.n)
        half = Z / (1 + z2 / self.n) * math.sqrt(p * (1 - p) / self.n + z2 / (4 * self.n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


def beyond(value: float, chance: float) -> float:
    """How much of what chance leaves open is reached: 0 at chance, 1 when it is always so."""
    return (value - chance) / (1 - chance) if chance < 1 else 0.0
