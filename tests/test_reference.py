"""docs/reference.md against the registries, and the picture of the README against the command that draws it."""

from pathlib import Path

import numpy as np
from PIL import Image

from debias.catalogue import RUN_SETTINGS, known_settings
from debias.config import NAMED_CONFIGS
from debias.data.generated.colored import PALETTE
from debias.data.registry import DATASETS
from debias.models.registry import BACKBONES
from debias.stages.recipes import RECIPES, STAGES
from scripts.draw_bias import chosen, draw
from scripts.reference import REFERENCE, ROOT, reference

TEXT = (ROOT / REFERENCE).read_text(encoding="utf-8")


def test_the_reference_is_current() -> None:
    assert reference() == TEXT, "run python -m scripts.reference"


def test_every_name_is_in_it() -> None:
    names = [*DATASETS, *known_settings(), *RUN_SETTINGS, *BACKBONES]
    names += [name for kind, group in NAMED_CONFIGS.items() if kind not in ("data set", "method") for name in group]
    assert [name for name in names if f"`{name}`" not in TEXT] == []
    assert [name for name in STAGES if f"\n### Stage {name}\n" not in TEXT] == []
    assert [name for name in RECIPES if f"\n### {name}\n" not in TEXT] == []


def test_the_picture_shows_aligned_and_conflicting_digits(cache_dir: Path) -> None:
    """The first row in the colours of its classes, the second in none of them, the third in some."""
    palette = 255 * np.array(PALETTE)
    hits = []
    for images in chosen(cache_dir):
        # The brightest pixel of a digit has its colour.
        brightest = [image.reshape(3, -1)[:, image.sum(axis=0).argmax()] for image in images]
        nearest = [int(((palette - pixel) ** 2).sum(axis=1).argmin()) for pixel in brightest]
        hits.append(sum(digit == colour for digit, colour in enumerate(nearest)))
    assert hits == [10, 0, 2]


def test_the_committed_picture_is_what_the_command_draws(cache_dir: Path, tmp_path: Path, canvases: list) -> None:
    drawn = np.asarray(Image.open(draw(chosen(cache_dir), tmp_path / "bias.png")).convert("RGB"), dtype=int)
    committed = np.asarray(Image.open(ROOT / "docs" / "bias.png").convert("RGB"), dtype=int)
    assert drawn.shape == committed.shape
    # Fonts and resampling may differ by a pixel between versions of libraries.
    assert np.abs(drawn - committed).mean() < 1
