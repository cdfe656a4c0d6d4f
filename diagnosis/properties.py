"""Simple properties of images and of their files, and how well each alone predicts the class."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from diagnosis.intervals import Share

FOLDS = 5
_BLOCK = 256
_EXIF = {"camera": 0x0110, "date": 0x0132}


@dataclass(frozen=True)
class Predicted:
    """How well a property alone predicts the class of images that it was not fitted on.

    accuracy : mean over classes, on `n` images; chance : 1 / classes
    """

    name: str
    accuracy: Share
    chance: float


def image_properties(images: Tensor) -> dict[str, Tensor]:
    """Of uint8 images [N, C, H, W]: float [N, 1 to 3] by name."""
    parts = [_of_block(part.float() / 255) for part in images.split(_BLOCK)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _of_block(x: Tensor) -> dict[str, Tensor]:
    grey = x.mean(1)
    height, width = grey.shape[1:]
    rough = grey.diff(dim=1)[:, :, :-1].square() + grey.diff(dim=2)[:, :-1, :].square()
    spread = grey.flatten(1).std(1)
    found = {
        "brightness": grey.mean((1, 2)),
        "contrast": spread,
        # Of a dark image too: as a share of its contrast.
        "sharpness": (rough.mean((1, 2)).sqrt() / (spread + 1e-3)),
        "share of flat pixels": (rough < 1e-4).float().mean((1, 2)),
    }
    # What is seen against the border: how large, how long, compared to the image.
    wide = max(1, min(height, width) // 16)
    edge = torch.cat(
        [x[:, :, :wide].flatten(2), x[:, :, -wide:].flatten(2), x[..., :wide].flatten(2), x[..., -wide:].flatten(2)], 2
    )
    border = edge.median(2).values
    away = (x - border[..., None, None]).abs().amax(1)
    down, across = away.mean(2), away.mean(1)
    found["size of what is shown"] = (away > 0.15).float().mean((1, 2))
    found["aspect of what is shown"] = torch.log((_extent(across) + 1e-3) / (_extent(down) + 1e-3))
    if x.shape[1] == 3:
        red_green, yellow_blue = x[:, 0] - x[:, 1], (x[:, 0] + x[:, 1]) / 2 - x[:, 2]
        pair = torch.stack([red_green, yellow_blue]).flatten(2)
        # Hasler and Suesstrunk, 2003
        found["colourfulness"] = pair.std(2).square().sum(0).sqrt() + 0.3 * pair.mean(2).square().sum(0).sqrt()
        found["mean colour"] = x.mean((2, 3))
    found["border colour"] = border
    return {name: value if value.ndim == 2 else value[:, None] for name, value in found.items()}


def _extent(profile: Tensor) -> Tensor:
    """Spread of a profile [N, L] about its middle, as a share of its length; [N]."""
    place = torch.linspace(0, 1, profile.shape[1], device=profile.device)
    weight = profile / profile.sum(1, keepdim=True).clamp(min=1e-6)
    middle = (weight * place).sum(1, keepdim=True)
    return (weight * (place - middle).square()).sum(1).sqrt()


def file_properties(paths: Sequence[str]) -> dict[str, list[float | str]]:
    """Of image files: size in bytes, width, height, format and, where any file tells, camera and day.

    A file that is not there as a file (a member of an archive) or cannot be read gets "unknown" everywhere; nothing is
    given where that is so of all.
    """
    rows = [_of_file(Path(path)) for path in paths]
    names = ("file size", "width", "height", "aspect of the file", "format", "camera", "date")
    columns = {name: [row.get(name, "unknown") for row in rows] for name in names}
    return {name: values for name, values in columns.items() if any(value != "unknown" for value in values)}


def _of_file(path: Path) -> dict[str, float | str]:
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            about: dict[str, float | str] = {
                "file size": float(len(content)),
                "width": float(image.width),
                "height": float(image.height),
                "aspect of the file": image.width / image.height,
                "format": str(image.format),
            }
            exif = image.getexif()
            for name, tag in _EXIF.items():
                if exif.get(tag):
                    about[name] = str(exif[tag])[:10]
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError):
        return {}
    return about


def predicted(
    properties: Mapping[str, Tensor | Sequence[float | str]],
    targets: Tensor,
    classes: int,
    seed: int,
    bar: Callable[[int], object] = lambda done: None,
) -> list[Predicted]:
    """Cross-validated prediction of the class by each property alone, the best first.

    Values are put into cells (quantiles; words as they are), and the class is the one that is most frequent in a cell
    beside its own size. Five folds, drawn from `seed`; accuracy is the mean over classes, so that guessing the largest
    class gains nothing.

    Parameters
    ----------
    properties
        Float [N, 1 to 3], or N numbers and words.
    targets
        int64 [N] on the CPU.
    classes, seed
        How many classes there are; of the folds.
    bar
        Told after each property.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(targets), generator=generator) % FOLDS
    count = torch.bincount(targets, minlength=classes)
    present = int((count > 0).sum())
    found = []
    for name, values in properties.items():
        right = torch.zeros(len(targets))
        for number in range(FOLDS):
            mine, rest = fold == number, fold != number
            cell, cells = _cells(values, rest)
            table = torch.zeros(cells, classes).index_put_(
                (cell[rest], targets[rest]), torch.ones(int(rest.sum())), accumulate=True
            )
            own = torch.bincount(targets[rest], minlength=classes).clamp(min=1)
            # In a cell that no image was fitted on, no class is better than another.
            guess = (table / own).argmax(1)
            right[mine] = (guess[cell[mine]] == targets[mine]).float()
        by_class = torch.zeros(classes).index_add_(0, targets, right) / count.clamp(min=1)
        mean = float(by_class[count > 0].mean())
        found.append(Predicted(name, Share(mean * len(targets), len(targets)), 1 / present))
        bar(1)
    return sorted(found, key=lambda one: -one.accuracy.value)


def _cells(values: Tensor | Sequence[float | str], fitted: Tensor) -> tuple[Tensor, int]:
    """The cell of every image, int64 [N], and how many there are; bounds are quantiles of the fitted images."""
    if not isinstance(values, Tensor):
        if any(isinstance(value, str) for value in values):
            words = {word: i for i, word in enumerate(dict.fromkeys(map(str, values)))}
            return torch.tensor([words[str(value)] for value in values]), len(words)
        values = torch.tensor([float(value) for value in values])[:, None]
    # As many cells as leave some thirty images in each.
    per_side = max(2, min({1: 24, 2: 8, 3: 5}[values.shape[1]], round((len(values) / 30) ** (1 / values.shape[1]))))
    inner = torch.linspace(0, 1, per_side + 1, dtype=torch.float64)[1:-1]
    cell = torch.zeros(len(values), dtype=torch.int64)
    for column in values.double().unbind(1):
        known = column[fitted].unique()
        # Few values are told apart one by one: a quantile would fall on one of them.
        few = len(known) <= per_side
        bounds = (known[1:] + known[:-1]) / 2 if few else torch.quantile(column[fitted], inner)
        cell = cell * per_side + torch.searchsorted(bounds, column.contiguous())
    return cell, per_side ** values.shape[1]
