"""Small image sets in the layouts of papers, drawn by seed: shapes say the class, colours the bias."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((200, 60, 40), (40, 90, 210), (60, 180, 60), (220, 200, 40), (150, 60, 170), (240, 240, 240))


def picture(target: int, bias: int, number: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A filled shape (class) on a coloured ground (bias), placed and varied by `number`; size is (width, height)."""
    random = np.random.default_rng((target, bias, number))
    width, height = size
    y, x = np.mgrid[:height, :width] / min(size)
    x, y = x - random.uniform(0.35, 0.65) * width / min(size), y - random.uniform(0.35, 0.65) * height / min(size)
    inside = (x**2 + y**2 < 0.06, (abs(x) < 0.2) & (abs(y) < 0.2), abs(x) < 0.08, abs(y) < 0.08, x > y, x > -y)[target]
    pixels = np.where(inside[..., None], 120, COLOURS[bias]) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def save(path: Path, target: int, bias: int, number: int, size: tuple[int, int] = (40, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(target, bias, number, size).save(path)


def bffhq(root: Path, layout: str = "dcwp", aligned: int = 40, conflicting: int = 4) -> Path:
    """BFFHQ in the layout of DCWP (0.5pct, with valid) or DeNetDM (train)."""
    train = root / ("0.5pct" if layout == "dcwp" else "train")
    number = 0
    for kind, count in (("align", aligned), ("conflict", conflicting)):
        for target in (0, 1):
            for _ in range(count):
                bias = target if kind == "align" else 1 - target
                save(train / kind / str(target) / f"{number}_{target}_{bias}.png", target, bias, number)
                number += 1
    for part in ("valid", "test") if layout == "dcwp" else ("test",):
        for _ in range(6):
            for target, bias in ((0, 0), (0, 1), (1, 0), (1, 1)):
                save(root / part / f"{number}_{target}_{bias}.png", target, bias, number)
                number += 1
    return root


def bar(root: Path, each: int = 8) -> Path:
    """BAR: six actions, each tied to a place in training and to another one in the test images."""
    names = ("climbing", "diving", "fishing", "pole vaulting", "racing", "throwing")
    for target, name in enumerate(names):
        for number in range(each):
            save(root / "train" / f"{name}_{number}.jpg", target, target, number, (48, 36))
        for number in range(4):
            save(root / "test" / f"{name}_{number}.jpg", target, (target + 1) % 6, number, (48, 36))
    return root


def ensemble_bar(root: Path, each: int = 8, shares: Mapping[str, int] | None = None) -> Path:
    """BAR in BiasEnsemble's layout; `shares` gives conflicting training images of a class by the share's folder."""
    for target in range(6):
        for number in range(each):
            save(root / "train" / "align" / str(target) / f"bar_{target}_{number}.jpg", target, target, number)
        for share, count in (shares or {"1pct": 1, "5pct": 2}).items():
            for number in range(count):
                name = f"bar_{target}_{90 + number}.jpg"
                save(root / "train" / "conflict" / share / str(target) / name, target, (target + 1) % 6, 90 + number)
        for part in ("valid", "test"):
            for number in range(2):
                name = f"bar_{target}_{number}.jpg"
                save(root / part / str(target) / name, target, (target + 2) % 6, number + 50)
    return root


def celeba(root: Path, kinds: Mapping[tuple[int, int], int] | None = None) -> Path:
    """CelebA's standard files; `kinds` gives training images by (blond, male)."""
    kinds = kinds or {(1, 0): 30, (0, 1): 30, (0, 0): 20, (1, 1): 10}
    rows = [(blond, male, 0) for (blond, male), count in kinds.items() for _ in range(count)]
    rows += [(blond, male, part) for part in (1, 2) for blond in (0, 1) for male in (0, 1) for _ in range(4)]
    attributes = [f"{len(rows)}", "Bald Blond_Hair Male"]
    partition = []
    for number, (blond, male, part) in enumerate(rows, 1):
        name = f"{number:06d}.jpg"
        save(root / "img_align_celeba" / name, blond, male, number, (36, 44))
        attributes.append(f"{name} -1  {1 if blond else -1}  {1 if male else -1}")
        partition.append(f"{name} {part}")
    (root / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return root


def class_folders(root: Path, names: Sequence[str] = ("cow", "camel"), each: int = 20) -> Path:
    """<class>/<file>: nine in ten of a class on the ground of the class."""
    for target, name in enumerate(names):
        for number in range(each):
            bias = target if number % 10 else (target + 1) % len(names)
            save(root / name / f"photo {number}.jpg", target, bias, number, (60, 40))
    return root


def table(path: Path, rows: Sequence[Sequence[object]], columns: Sequence[str]) -> Path:
    """A CSV."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {"bffhq": bffhq, "celeba": celeba, "bar": bar, "own_images": class_folders}
