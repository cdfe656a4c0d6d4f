"""The picture of all corruptions: a row for each, a column for each level."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from debias.data.generated.corruptions import CORRUPTIONS
from debias.tracking.pictures import corruptions
from debias.tracking.pictures.plots import DPI
from tests.data.sources.test_cifar import write_tree
from tests.sheets import sheet_on


def test_every_corruption_at_every_level(tmp_path, canvases):
    plain = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = corruptions.picture(plain, 1, tmp_path / "all.png")
    sheet = sheet_on(canvases[0])
    assert len(sheet.tiles) == 20 * 6 and sheet.columns == 6
    for row, name in enumerate(CORRUPTIONS):
        assert sheet.captions[6 * row : 6 * row + 6] == [name, *(f"level {level}" for level in range(1, 6))]
        first, *others = sheet.tiles[6 * row : 6 * row + 6]
        factor = len(first) // 32
        np.testing.assert_array_equal(first[::factor, ::factor], plain[row].permute(1, 2, 0))
        assert [not np.array_equal(tile, first) for tile in others] == [name != "original"] * 5
    width, height = Image.open(path).size
    assert abs(width - 6 * DPI) <= 1 and height > 20 * 100


def test_the_command(tmp_path, canvases, capsys):
    write_tree(tmp_path / "in", test=2)
    words = [str(tmp_path / "new" / "all.png"), "--data-dir", str(tmp_path / "in"), "--cache-dir", str(tmp_path)]
    assert corruptions.main(words) == 0
    assert len(canvases[0].images) == 20 * 6 and Path(words[0]).read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.strip() == words[0]


def test_without_cifar10(tmp_path, no_network, capsys):
    words = [str(tmp_path / "all.png"), "--data-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert corruptions.main(words) == 2
    assert capsys.readouterr().err.startswith("error: CIFAR-10 was not found")
