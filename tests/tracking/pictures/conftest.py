"""What tests of pictures share."""

import pytest


@pytest.fixture(autouse=True)
def _empty_pictures() -> None:
    """Here pictures are drawn."""
