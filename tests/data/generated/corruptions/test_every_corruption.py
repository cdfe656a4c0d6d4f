"""What holds of every corruption, and the statistics of the reference generator on 200 real images."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from debias.data.generated.corruptions import CORRUPTIONS, LEVELS, TYPES
from debias.data.sources.cifar_files import of_zip

LEVEL = range(1, LEVELS + 1)
RANDOM = set(CORRUPTIONS) - {
    "brightness", "contrast", "jpeg", "pixelate", "saturate", "gaussian blur", "defocus blur", "zoom blur", "original",
}  # fmt: skip
REFERENCE = json.loads(Path(__file__).with_name("statistics.json").read_text(encoding="utf-8"))["corruptions"]
ZIP = Path(os.environ.get("DATA_DIR", "")) / "cifar10_jpeg.zip"


def photographs(n: int = 24) -> Tensor:
    """Smooth coloured patterns with edges: more like photographs than noise."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").mul(255)
    images[:, :, 10:20, 8:24] += 60
    return images.clamp(0, 255).to(torch.uint8)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_twenty_by_type():
    assert TYPES[0] == (
        "snow", "frost", "fog", "brightness", "contrast", "spatter", "elastic", "jpeg", "pixelate", "saturate",
    )  # fmt: skip
    assert TYPES[1] == (
        "gaussian noise", "shot noise", "impulse noise", "speckle noise", "gaussian blur", "defocus blur",
        "glass blur", "motion blur", "zoom blur", "original",
    )  # fmt: skip
    assert set(REFERENCE) == set(CORRUPTIONS)


@pytest.mark.parametrize("level", LEVEL)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_bytes_in_bytes_out_and_the_input_is_left_alone(name, level):
    images = photographs()
    before = images.clone()
    found = CORRUPTIONS[name](images, level, seeded())
    assert found.dtype == torch.uint8 and found.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(found, images) == (name == "original")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_generator_decides(name):
    images = photographs()
    one, again, other = (CORRUPTIONS[name](images, 3, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (name not in RANDOM)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_images(name, value):
    """Nothing divides by the zero spread, value or contrast of such images."""
    flat = torch.full((3, 3, 32, 32), value, dtype=torch.uint8)
    found = CORRUPTIONS[name](flat, 5, seeded()).int()
    if name in {"gaussian blur", "defocus blur", "glass blur", "motion blur", "zoom blur", "contrast", "elastic",
                "pixelate", "jpeg", "original"}:  # fmt: skip
        assert (found - value).abs().max() <= 1
    if name == "brightness":
        assert (found == (76 if value == 0 else 255)).all()


@pytest.mark.parametrize("name", ["gaussian noise", "fog", "glass blur", "snow", "elastic", "motion blur"])
def test_images_of_a_batch_are_corrupted_one_by_one(name):
    """The same image many times over: random corruptions differ from one to the next."""
    image = photographs(1).expand(4, -1, -1, -1)
    found = CORRUPTIONS[name](image, 4, seeded())
    assert len({bytes(one.numpy().tobytes()) for one in found}) == 4


@pytest.fixture(scope="module")
def real() -> Tensor:
    """Classes are in the order of their names, as the files of the zip."""
    files = of_zip(ZIP).open()
    return torch.from_numpy(files.images("test", np.arange(0, 10_000, 50), False))


def measured(images: Tensor, found: Tensor) -> list[float]:
    before, after = images.double() / 255, found.double() / 255
    gradient = (after[..., 1:] - after[..., :-1]).abs().mean()
    return [float(v) for v in ((after - before).abs().mean(), after.mean(), after.std(), gradient)]


@pytest.mark.real
@pytest.mark.skipif(not ZIP.is_file(), reason="DATA_DIR has no cifar10_jpeg.zip")
@pytest.mark.parametrize("level", LEVEL)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_statistics_of_the_reference(real, name, level):
    """Mean change, mean, spread and gradient: within .0012, or as far as 200 images' luck may take them.

    Where each image draws few numbers (an angle, an affine map, a cloud, a piece of a photograph), the figures of 200
    images differ by luck. Frost has other photographs: its brightness and contrast are near, and its texture.
    """
    found = measured(real, CORRUPTIONS[name](real, level, seeded(5)))
    luck = {"frost": 0.016, "fog": 0.01, "elastic": 0.003, "snow": 0.006 if level == 5 else 0.002, "spatter": 0.002}
    np.testing.assert_allclose(found, REFERENCE[name][level - 1], atol=luck.get(name, 0.0012))
