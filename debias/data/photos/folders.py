"""From a listing of image files to a `Task`: decode, leave out what cannot be used, label, and name the content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from debias.data.cache import key_of
from debias.data.mapped import MappedImages
from debias.data.photos.imagecache import DecodedImages, decoded_images
from debias.data.photos.listing import PARTS, SHOWN, Block, Listing, Problem, settle
from debias.data.photos.similar import look_of, pairs_alike
from debias.data.sources.cifar_files import MEAN, STD
from debias.data.split import Split, Task
from debias.digests import digest_of
from debias.errors import UserError

VERSION = 1
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = (MEAN, STD)

Settings = Mapping[str, Any]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]] | None


@dataclass
class _Part:
    """One part, decoded: its blocks, and which of their images are used, bool [N]."""

    blocks: list[Block]
    decoded: list[DecodedImages]
    kept: np.ndarray

    def paths(self, listing: Listing) -> list[str]:
        return [listing.files.path(item.name) for block in self.blocks for item in block.items]

    def digests(self) -> list[str]:
        return [row.tobytes().hex() for decoded in self.decoded for row in decoded.contents]

    def column(self, name: str) -> np.ndarray:
        """int64 [N], -1 where unknown."""
        values = [getattr(item, name) for block in self.blocks for item in block.items]
        return np.array([-1 if value is None else value for value in values], dtype=np.int64)


def folder_task(
    name: str,
    listing: Listing,
    settings: Settings,
    normalise: Normalisation,
    every_class: bool = False,
) -> Task:
    """Decode a listing, or open its cache, and make the Task.

    Parameters
    ----------
    name
        The data set's name.
    listing
        Files and labels.
    settings
        cache_dir, seed, and where given: limit, bad_files (stop, skip), duplicates (stop, skip, keep), reverse,
        streaming, threads, progress.
    normalise
        Means and standard deviations of the channels.
    every_class
        Whether each class must have a training image.

    Raises
    ------
    UserError
        Files that cannot be used and a setting that says stop, classes or parts without images, an unwritable cache.
    """
    cache_dir = Path(settings["cache_dir"])
    bad_files = settings["bad_files"]
    notes = listing.notes + settle(listing.problems, bad_files, "unusable files", "bad_files", cache_dir)
    content = None
    if settings["limit"] is not None:
        # Which images are left depends on the seed.
        content = _listing_key(listing)
        listing = listing.limited(settings["limit"], settings["seed"])
    parts = {part: _decode(name, part, listing, settings) for part in PARTS if listing.count(part)}
    broken = []
    for part in parts.values():
        kept = np.concatenate([_without(decoded) for decoded in part.decoded])
        faults = [why for decoded in part.decoded for _, why in sorted(decoded.faults.items())]
        paths = part.paths(listing)
        broken += [Problem(paths[i], why) for i, why in zip(np.flatnonzero(~kept), faults, strict=True)]
        part.kept = kept
    notes += settle(broken, bad_files, "broken files", "bad_files", cache_dir)
    rule = settings["duplicates"]
    if rule != "keep":
        notes += settle(_drop_duplicates(parts, listing), rule, "duplicated files", "duplicates", cache_dir)
    _check_filled(name, parts, listing, every_class)
    notes += _constant(parts, listing)
    if settings["similar"]:
        notes += _similar(parts, listing)

    if content is None:
        # Of some data sets the seed draws training images; the test images are always all of them.
        content = _pixels({"test": parts["test"]} if name != "own_images" else parts)
    reverse = settings["reverse"]
    if reverse and listing.bias_names is None:
        raise UserError(f"reverse: {name} has no bias labels to exchange with the targets")
    streaming = settings["streaming"]
    ties = None if listing.ties is None else torch.from_numpy(listing.ties.T if reverse else listing.ties).contiguous()
    splits = {part: _split(found, listing, reverse, streaming) for part, found in parts.items()}
    names = (listing.target_names, listing.bias_names)
    target_names, bias_names = (names[1] or (), names[0]) if reverse else names
    return Task(
        name=name,
        train=splits["train"],
        test=splits["test"],
        valid=splits.get("valid"),
        target_names=target_names,
        bias_names=bias_names,
        key=_content_key(parts, target_names, bias_names, reverse, normalise, ties),
        content=content,
        mean=None if normalise is None else normalise[0],
        std=None if normalise is None else normalise[1],
        files=tuple(parts["train"].paths(listing)),
        digests=tuple(parts["train"].digests()),
        other_files=_others(parts, splits, listing),
        selection="valid_given" if "valid" in parts else "valid",
        preparation=parts["test"].blocks[0].preparation,
        notes=tuple(notes),
        ties=ties,
    )


def _decode(name: str, part: str, listing: Listing, settings: Settings) -> _Part:
    blocks = [block for block in listing.blocks if block.part == part and block.items]
    decoded = [
        decoded_images(
            listing.files,
            [item.name for item in block.items],
            block.preparation,
            settings["cache_dir"],
            f"{name} {part}",
            workers=settings.get("threads"),
            progress=settings.get("progress", True),
        )
        for block in blocks
    ]
    return _Part(blocks, decoded, np.zeros(0, dtype=bool))


def _without(decoded: DecodedImages) -> np.ndarray:
    kept = np.ones(len(decoded.images), dtype=bool)
    kept[list(decoded.faults)] = False
    return kept


def _drop_duplicates(parts: Mapping[str, _Part], listing: Listing) -> list[Problem]:
    """Unmark files whose content came before, and say so; where their labels contradict each other, all of them."""
    paths = {name: part.paths(listing) for name, part in parts.items()}
    labels = {name: np.stack([part.column("target"), part.column("bias")], axis=1) for name, part in parts.items()}
    first: dict[bytes, tuple[str, int]] = {}
    problems = []
    for name, part in parts.items():
        contents = np.concatenate([decoded.contents for decoded in part.decoded])
        for i in np.flatnonzero(part.kept).tolist():
            where, j = first.setdefault(contents[i].tobytes(), (name, i))
            if (where, j) == (name, i):
                continue
            part.kept[i] = False
            agree = np.array_equal(labels[name][i], labels[where][j])
            what = "the same image as {}" + ("" if agree else ", labelled otherwise")
            problems.append(Problem(paths[name][i], what.format(paths[where][j])))
            if not agree and parts[where].kept[j]:
                parts[where].kept[j] = False
                problems.append(Problem(paths[where][j], what.format(paths[name][i])))
    return problems


def _constant(parts: Mapping[str, _Part], listing: Listing) -> list[str]:
    """Lines about images of one colour throughout, of which nothing can be learnt, and classes of nothing else."""
    paths = [path for part in parts.values() for path in part.paths(listing)]
    kept = np.concatenate([part.kept for part in parts.values()])
    flags = [decoded.constant for part in parts.values() for decoded in part.decoded]
    constant = kept & np.concatenate(flags)
    if not constant.any():
        return []
    target = np.concatenate([part.column("target") for part in parts.values()])
    first = paths[int(np.flatnonzero(constant)[0])]
    count = int(constant.sum())
    lines = [f"{count} {'image is' if count == 1 else 'images are'} of one colour throughout, the first: {first}"]
    for number, label in enumerate(listing.target_names):
        mine = kept & (target == number)
        if mine.any() and constant[mine].all():
            lines.append(f"every image of class {label} is of one colour throughout: look at the files")
    return lines


def _similar(parts: Mapping[str, _Part], listing: Listing) -> list[str]:
    """Lines about test images that look like training images though their files differ."""
    train, test = parts["train"], parts["test"]
    looks = [look_of([decoded.images for decoded in part.decoded])[part.kept] for part in (test, train)]
    found = pairs_alike(*looks)
    if not found:
        return ["no test image looks like a training image"]
    paths = [np.array(part.paths(listing), dtype=object)[part.kept] for part in (test, train)]
    lines = [f"  {paths[0][i]} like {paths[1][j]}" for i, j in found[:SHOWN]]
    lines += [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return [f"{len(found)} test images look like training images, so that figures on them are too good:", *lines]


def _check_filled(name: str, parts: Mapping[str, _Part], listing: Listing, every_class: bool) -> None:
    for part in ("train", "test"):
        if part not in parts or not parts[part].kept.any():
            raise UserError(f"{name}: no {part} images are left")
    train = parts["train"]
    counts = np.bincount(train.column("target")[train.kept], minlength=len(listing.target_names))
    empty = [listing.target_names[i] for i in np.flatnonzero(counts == 0)]
    if empty and every_class:
        raise UserError(f"{name}: no training image of class {', '.join(empty)}; a class needs at least one")


def _split(part: _Part, listing: Listing, reverse: bool, streaming: str) -> Split:
    ids = torch.from_numpy(np.flatnonzero(part.kept))
    target, bias = (torch.from_numpy(part.column(name))[ids] for name in ("target", "bias"))
    if reverse:
        target, bias = bias, target
    images = MappedImages([decoded.images for decoded in part.decoded], ids, streaming=streaming)
    return Split(images, target, None if listing.bias_names is None else bias, ids)


def _others(
    parts: Mapping[str, _Part], splits: Mapping[str, Split], listing: Listing
) -> tuple[tuple[str, str, int], ...]:
    """Path, part and target of every image that is used and is no training image."""
    found = []
    for part in ("valid", "test"):
        if part in parts:
            paths, split = parts[part].paths(listing), splits[part]
            pairs = zip(split.ids.tolist(), split.target.tolist(), strict=True)
            found += [(paths[number], part, target) for number, target in pairs]
    return tuple(found)


def _content_key(
    parts: Mapping[str, _Part],
    target_names: Sequence[str],
    bias_names: Sequence[str] | None,
    reverse: bool,
    normalise: Normalisation,
    ties: torch.Tensor | None = None,
) -> str:
    """Names pixels and labels themselves: the same images elsewhere are the same data."""
    return key_of(
        builder="folders",
        version=VERSION,
        content=_pixels(parts),
        names="\n".join([*target_names, "", *(bias_names or ())]),
        reverse=reverse,
        normalise=str(normalise),
        **({} if ties is None else {"ties": str(ties.tolist())}),
    )


def _pixels(parts: Mapping[str, _Part]) -> str:
    """A digest of the pixels, labels and places of images."""
    named: list[bytes] = []
    for name, part in parts.items():
        ids = np.flatnonzero(part.kept)
        pixels = np.concatenate([decoded.pixels for decoded in part.decoded])
        columns = [column[ids] for column in (pixels, part.column("target"), part.column("bias"))]
        named += [f"{name} {len(part.kept)}".encode(), *(column.tobytes() for column in (*columns, ids))]
    return digest_of(named)


def _listing_key(listing: Listing) -> str:
    """A digest of the names and labels of all images."""
    items = [(block.part, item.name, item.target, item.bias) for block in listing.blocks for item in block.items]
    return key_of(builder="listing", version=VERSION, items=str(items), names=str(listing.target_names))
