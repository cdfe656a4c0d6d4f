"""DCWP's up-weight by the share of conflicting images."""

import pytest

from debias.stages.finetune import upweight_for


@pytest.mark.parametrize(
    ("skew", "expected"),
    [(0.005, 80), (0.01, 50), (0.02, 30), (0.05, 10), (0.0, 80), (0.9, 10), (0.007, 80), (0.0072, 50), (0.03, 30)],
)
def test_the_nearest_share_as_a_ratio(skew: float, expected: float) -> None:
    assert upweight_for(skew) == expected
