"""The picture of all corruptions: a row for each, a column for each level."""

import numpy as np
import torch
from PIL import Image

from data.generated.corruptions import CORRUPTIONS
from tests.data.sources.test_cifar import write_tree
from tracking.pictures import corruptions
from tracking.pictures.plots import DPI


def test_every_corruption_at_every_level(tmp_path, monkeypatch):
    drawn: list = []
    draw = corruptions.plot_images

    def noted(images, captions, **look):
        drawn.append((images, captions))
        return draw(images, captions, **look)

    monkeypatch.setattr(corruptions, "plot_images", noted)
    plain = torch.randint(0, 256, (20, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = corruptions.picture(plain, 1, tmp_path / "all.png")
    ((images, captions),) = drawn
    assert len(images) == len(captions) == 20 * 6
    for row, name in enumerate(CORRUPTIONS):
        assert captions[6 * row : 6 * row + 6] == [name, *(f"level {level}" for level in range(1, 6))]
        assert torch.equal(images[6 * row], plain[row])
        changed = [not torch.equal(image, plain[row]) for image in images[6 * row + 1 : 6 * row + 6]]
        assert changed == [name != "original"] * 5
    width, height = Image.open(path).size
    assert abs(width - 6 * DPI) <= 1 and height > 20 * 100


def test_the_command(tmp_path, monkeypatch, capsys):
    write_tree(tmp_path / "in")
    # The little data set has 10 test images.
    monkeypatch.setattr(
        corruptions, "picture", lambda images, seed, path: (np.testing.assert_equal(len(images), 10), path)[1]
    )
    words = [str(tmp_path / "new" / "all.png"), "--data-dir", str(tmp_path / "in"), "--cache-dir", str(tmp_path)]
    assert corruptions.main(words) == 0
    assert capsys.readouterr().out.strip() == words[0]


def test_without_cifar10(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data.sources.cifar._download", lambda folder: "no network in tests")
    words = [str(tmp_path / "all.png"), "--data-dir", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert corruptions.main(words) == 2
    assert capsys.readouterr().err.startswith("error: CIFAR-10 was not found")
