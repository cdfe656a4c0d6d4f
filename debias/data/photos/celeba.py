"""CelebA's blond task (Liu et al. 2015): target blond hair, bias gender, few conflicting images for training.

Blond women and men who are not blond are aligned. The biases are numbered so that bias 0 (male) is that of class 0 (not
blond) and bias 1 (female) that of class 1 (blond).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch

from debias.data.photos.archives import Files, open_files
from debias.data.photos.listing import PARTS, Block, Item, Listing, Problem
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.randomness import stream
from debias.rawfiles import read_text, table_rows

TARGETS = ("not blond", "blond")
BIASES = ("male", "female")
METADATA = "metadata_blonde_subsampled.csv"
FOLDER = "img_align_celeba"
# The usual preparation of test images: resize the shorter side to 256 of 224, then take the middle.
MARGIN = 256 / 224


class Attributes(NamedTuple):
    """part : train, valid or test."""

    part: str
    blond: bool
    male: bool


def celeba(
    files: Files, size: int, skew: float, seed: int, *, labels: Path | None = None, valid: bool = False
) -> Listing:
    """List CelebA's images.

    All aligned training images are used, and of each class so many conflicting ones, drawn by `seed`, that they are a
    share `skew` of it. A metadata CSV says itself which images are used.

    Parameters
    ----------
    files
        Aligned images, list_attr_celeba and list_eval_partition (.txt or .csv), or a metadata CSV instead of the two.
    size
        Side of the prepared images.
    skew, seed
        Share of conflicting training images, and what draws them.
    labels
        A metadata CSV: columns image_id, split (0 train, 1 valid, 2 test), Blond_Hair, Male.
    valid
        Whether the validation images are listed.

    Raises
    ------
    UserError
        Files missing or damaged, or fewer conflicting images than the share needs.
    """
    lists = {PurePosixPath(name).name: name for name in files.names if name.endswith((".txt", ".csv"))}
    if labels is not None:
        known, drawn = _metadata(_text_of(labels), str(labels)), False
    elif METADATA in lists and not any(name.startswith("list_attr_celeba.") for name in lists):
        known, drawn = _metadata(_read(files, lists[METADATA]), METADATA), False
    else:
        known, drawn = _standard(files, lists), True
    images = _images(files)
    parts: dict[str, dict[tuple[int, int], list[Item]]] = {part: {} for part in PARTS}
    problems = []
    for name, about in sorted(known.items()):
        target, bias = int(about.blond), int(not about.male)
        if name in images.names_by_file:
            item = Item(images.names_by_file[name], target, bias)
            parts[about.part].setdefault((target, bias), []).append(item)
        elif about.part != "valid" or valid:
            problems.append(Problem(f"{FOLDER}/{name}", "no such file"))
    groups = parts["train"]
    aligned = _sorted(groups.get((t, t), []) for t in (0, 1))
    conflicting = [groups.get((t, 1 - t), []) for t in (0, 1)]
    if drawn:
        conflicting = [_draw(group, len(groups.get((t, t), [])), t, skew, seed) for t, group in enumerate(conflicting)]
    # Stretched, so that random crops reach all of the image; see `portrait_crop_flip`.
    stretched, middle = Preparation(size, "stretch"), Preparation(size, "crop", MARGIN)
    blocks = [Block("train", aligned, stretched), Block("train", _sorted(conflicting), stretched)]
    blocks += [Block("valid", _sorted(parts["valid"].values()), middle)] if valid else []
    blocks += [Block("test", _sorted(parts["test"].values()), middle)]
    listing = Listing(images.files, [block for block in blocks if block.items], TARGETS, BIASES, problems)
    for part in ("train", "test"):
        if not listing.count(part):
            raise UserError(f"{files.root} holds no {part} images of celeba; expected {FOLDER}/000001.jpg, ...")
    return listing


def _sorted(groups: Iterable[list[Item]]) -> list[Item]:
    return sorted(item for group in groups for item in group)


def _draw(group: list[Item], aligned: int, target: int, skew: float, seed: int) -> list[Item]:
    """So many of a class's conflicting images that they are a share `skew` of all of the class."""
    if skew >= 1:
        raise UserError(f"skew={skew:g}: celeba keeps all aligned images, so the conflicting ones are less than all")
    count = round(aligned * skew / (1 - skew))
    if count > len(group):
        most = len(group) / max(1, aligned + len(group))
        raise UserError(
            f"skew={skew:g} needs {count} conflicting images of class {TARGETS[target]}, and there are {len(group)}: "
            f"at most skew={int(most * 1000) / 1000:g}"
        )
    chosen = torch.randperm(len(group), generator=stream(seed, f"celeba conflicting {target}"))[:count]
    return [group[i] for i in chosen.tolist()]


class _Images(NamedTuple):
    files: Files
    names_by_file: Mapping[str, str]


def _images(files: Files) -> _Images:
    """Where the images are: below a folder, or in an archive of their own beside the lists."""
    by_file = {PurePosixPath(name).name: name for name in files.names if name.lower().endswith((".jpg", ".png"))}
    archive = files.root / f"{FOLDER}.zip"
    if not by_file and archive.is_file():
        files = open_files(archive)
        by_file = {PurePosixPath(name).name: name for name in files.names}
    return _Images(files, by_file)


def _standard(files: Files, lists: Mapping[str, str]) -> dict[str, Attributes]:
    tables = []
    for stem in ("list_attr_celeba", "list_eval_partition"):
        name = next((lists[f"{stem}{end}"] for end in (".txt", ".csv") if f"{stem}{end}" in lists), None)
        if name is None:
            raise UserError(f"{files.root} lacks {stem}.txt (or .csv), or {METADATA} instead of the two lists")
        tables.append((name, _rows(_read(files, name), name)))
    (attr_name, attributes), (part_name, partition) = tables
    columns = next(iter(attributes.values()), {})
    for wanted in ("Blond_Hair", "Male"):
        if wanted not in columns:
            raise UserError(f"{attr_name} has no column {wanted}")
    known = {}
    for image, row in partition.items():
        if image not in attributes:
            raise UserError(f"{attr_name} has no line for {image}, which {part_name} lists")
        part = PARTS[_number(next(iter(row.values()), ""), part_name, image, range(3))]
        known[image] = _attributes(part, attributes[image], attr_name, image)
    return known


def _metadata(text: str, name: str) -> dict[str, Attributes]:
    names, lines = table_rows(text, name)
    rows = [row for _, row in lines]
    for wanted in ("image_id", "split", "Blond_Hair", "Male"):
        if not rows or wanted not in names:
            raise UserError(f"{name} has no column {wanted}; a metadata CSV has image_id, split, Blond_Hair, Male")
    return {
        row["image_id"]: _attributes(
            PARTS[_number(row["split"], name, row["image_id"], range(3))], row, name, row["image_id"]
        )
        for row in rows
    }


def _attributes(part: str, row: Mapping[str, str], name: str, image: str) -> Attributes:
    blond, male = (_number(row[column], name, image, (-1, 0, 1)) == 1 for column in ("Blond_Hair", "Male"))
    return Attributes(part, blond, male)


def _number(text: str, name: str, image: str, allowed: Sequence[int]) -> int:
    if text in map(str, allowed):
        return int(text)
    raise UserError(f"{name}, image {image}: {text!r} is none of {', '.join(map(str, allowed))}")


def _rows(text: str, name: str) -> dict[str, dict[str, str]]:
    """Columns of every image, of a list as published (.txt) or as a CSV with image_id first."""
    if name.endswith(".csv"):
        return {row.pop("image_id"): row for _, row in table_rows(text, name)[1] if row.get("image_id")}
    return dict(_text_rows(text.splitlines(), name))


def _text_rows(lines: list[str], name: str) -> Iterator[tuple[str, dict[str, str]]]:
    header = ["value"]
    if lines and lines[0].strip().isdecimal():
        # The list of attributes begins with the number of images and the names of the columns.
        header, lines = lines[1].split() if len(lines) > 1 else [], lines[2:]
    for number, line in enumerate(lines, 1):
        image, *values = line.split() or [""]
        if image and len(values) != len(header):
            raise UserError(f"{name}: entry {number} ({image}) has {len(values)} values instead of {len(header)}")
        if image:
            yield image, dict(zip(header, values, strict=True))


def _read(files: Files, name: str) -> str:
    try:
        return next(read() for _, read in files.each([name])).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"{files.path(name)} cannot be read ({error})") from error


def _text_of(path: Path) -> str:
    return read_text(path, f"labels={path}")
