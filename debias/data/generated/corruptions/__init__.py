"""The twenty corruptions of Corrupted CIFAR-10 as operations on whole batches.

Source: CIFAR-10-C (Hendrycks & Dietterich, ICLR 2019) with its parameters for 32 x 32 images, in the choice and order
of LfF (Nam et al., NeurIPS 2020). All that is random comes from the generator passed in.
"""

from torch import Generator, Tensor

from debias.data.generated.corruptions import blur, colour, digital, jpeg, noise, spatter, weather
from debias.data.generated.corruptions.pixels import Corruption

LEVELS = 5


def original(images: Tensor, level: int, generator: Generator) -> Tensor:
    """The image as it is."""
    return images


CORRUPTIONS: dict[str, Corruption] = {
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": colour.brightness,
    "contrast": colour.contrast,
    "spatter": spatter.spatter,
    "elastic": digital.elastic,
    "jpeg": jpeg.jpeg,
    "pixelate": digital.pixelate,
    "saturate": colour.saturate,
    "gaussian noise": noise.gaussian_noise,
    "shot noise": noise.shot_noise,
    "impulse noise": noise.impulse_noise,
    "speckle noise": noise.speckle_noise,
    "gaussian blur": blur.gaussian_blur,
    "defocus blur": blur.defocus_blur,
    "glass blur": blur.glass_blur,
    "motion blur": blur.motion_blur,
    "zoom blur": blur.zoom_blur,
    "original": original,
}
# The corruption tied to class 0..9, by type.
TYPES = tuple(tuple(CORRUPTIONS)[start : start + 10] for start in (0, 10))
