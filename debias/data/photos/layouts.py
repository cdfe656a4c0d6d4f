"""Published data sets of image files: BFFHQ, DisEnt's Colored MNIST and Corrupted CIFAR-10, BAR and BiasEnsemble's BAR.

Layouts, each in a folder or an archive, with at most one folder around it (a stands for align, c for conflict):

    DeNetDM       train/{a,c}/<class>/<file>, test/<file>                                            BFFHQ
    DCWP, DisEnt  {0.5,1,2,5}pct/{a,c}/<class>/<file>, valid/<file>, test/<file>                     BFFHQ
    DisEnt        {0.5,1,2,5}pct/{a,c}/<class>/<file>, {0.5,1,2,5}pct/valid/<file>, test/<class>/<file>
    BAR           train/<class>_<n>.jpg, test/<class>_<n>.jpg
    BiasEnsemble  train/a/<class>/<file>, train/c/{1,5}pct/<class>/<file>, {valid,test}/<class>/<file>       BAR

Files of all but BAR are called <anything>_<class>_<bias>.<ext>.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from debias.data.photos.archives import ARCHIVE_SUFFIXES, Files, is_image_name, open_files
from debias.data.photos.listing import PARTS, Block, Item, Listing, Problem
from debias.data.preparation import Preparation
from debias.data.ties import ALIGNED, CONFLICTING
from debias.errors import UserError

DIGITS = tuple(str(digit) for digit in range(10))
BAR_NAMES = ("climbing", "diving", "fishing", "pole vaulting", "racing", "throwing")

_TRAIN = re.compile(r"(?:[^/]+/)?(?:(?P<percent>\d+(?:\.\d+)?)pct|train)/(?P<kind>align|conflict)/.+")
# The folder around is tried last, or it would take the share for itself.
_HELD = re.compile(r"(?:[^/]+/)??(?:(?P<percent>\d+(?:\.\d+)?)pct/)?(?P<part>valid|test)/.+")
_LABELS = re.compile(r"(?:.*_)?(\d+)_(\d+)")
_ENSEMBLE = re.compile(
    r"(?:[^/]+/)?(?:train/(?P<kind>align|conflict/(?P<percent>\d+(?:\.\d+)?)pct)|(?P<part>valid|test))/(?P<label>[^/]+)/.+"
)


def find(data_dir: str | Path | None, dataset: str, names: Sequence[str], markers: Sequence[str], wanted: str) -> Files:
    """The files of a published data set: a folder or archive of one of its names, or `data_dir` itself.

    Parameters
    ----------
    data_dir
        Where to look.
    dataset, wanted
        What it is called, and which files the user has to put where.
    names
        Names of the folder, or of the archive without its ending.
    markers
        Folders or files of which one is in `data_dir` when it holds the data set itself.

    Raises
    ------
    UserError
        Nothing found, with the places that were tried.
    """
    if data_dir is None:
        raise UserError(f"{dataset} needs its files: set data_dir=FOLDER, or the environment variable DATA_DIR")
    root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data_dir={data_dir}: there is no such folder")
    tried = [root / f"{name}{suffix}" for name in names for suffix in ("", *ARCHIVE_SUFFIXES)]
    for path in tried:
        if path.exists():
            return open_files(path)
    if any((root / marker).exists() for marker in markers):
        return open_files(root)
    places = ", ".join(str(root / name) for name in names)
    raise UserError(
        f"{dataset} was not found: neither {places} (a folder, or an archive {', '.join(ARCHIVE_SUFFIXES)}) is there, "
        f"nor does {root} hold {' or '.join(markers)}.\nPut {wanted} there"
    )


def pairs(
    files: Files,
    dataset: str,
    skew: float,
    preparation: Preparation,
    target_names: tuple[str, ...],
    bias_names: tuple[str, ...],
    *,
    valid: bool = False,
) -> Listing:
    """Files in the layouts of DeNetDM, DCWP or DisEnt, labelled by their names.

    Aligned images come first, then conflicting ones, each in sorted order.

    Raises
    ------
    UserError
        No training or test images, or none of the share `skew`.
    """
    trained = {name: match for name in files.names if (match := _TRAIN.fullmatch(name))}
    held = {name: match for name in files.names if name not in trained and (match := _HELD.fullmatch(name))}
    share = _share_of(files, [match["percent"] for match in trained.values()], skew)
    found: dict[str, list[Item]] = {"align": [], "conflict": [], "valid": [], "test": []}
    problems = []
    for name, match in (*trained.items(), *held.items()):
        if match["percent"] not in (None, share):
            continue
        kind = match["kind"] if name in trained else match["part"]
        if kind == "valid" and not valid:
            continue
        item = _labelled(name, len(target_names), len(bias_names))
        if isinstance(item, Item) and kind in ("align", "conflict") and (item.target == item.bias) != (kind == "align"):
            item = f"in folder {kind}, but its name says class {item.target}, bias {item.bias}"
        if isinstance(item, Item):
            found[kind].append(item)
        else:
            problems.append(Problem(files.path(name), item))
    parts = {"train": found["align"] + found["conflict"], "valid": found["valid"], "test": found["test"]}
    _check_parts(files, dataset, parts, "train/{align,conflict}/… or 0.5pct/{align,conflict}/…, and test/…")
    blocks = [Block(part, parts[part], preparation) for part in PARTS if parts[part]]
    return Listing(files, blocks, target_names, bias_names, problems)


def _labelled(name: str, targets: int, biases: int) -> Item | str:
    """The labels in a file's name, or what is wrong with it."""
    path = PurePosixPath(name)
    match = _LABELS.fullmatch(path.stem)
    if match is None or not is_image_name(name):
        return "wrongly named: not <id>_<class>_<bias>.png (or another image type)"
    target, bias = int(match[1]), int(match[2])
    if target >= targets or bias >= biases:
        return f"wrongly named: class {target} of {targets}, bias {bias} of {biases}"
    if path.parent.name.isdigit() and int(path.parent.name) != target:
        return f"in the folder of class {path.parent.name}, but its name says class {target}"
    return Item(name, target, bias)


def bar(files: Files, preparation: Preparation) -> Listing:
    """BAR's action images: the class is in the name, biases are unknown.

    Raises
    ------
    UserError
        No training or no test images.
    """
    parts: dict[str, list[Item]] = {"train": [], "test": []}
    problems = []
    for name in files.names:
        match = re.fullmatch(r"(?:[^/]+/)?(train|test)/(?:[^/]+/)*([^/]+)", name)
        if match is None:
            continue
        action = re.fullmatch(r"(.+)_\d+\.\w+", match[2])
        label = action[1].replace("_", " ").lower() if action else ""
        if label in BAR_NAMES and is_image_name(name):
            parts[match[1]].append(Item(name, BAR_NAMES.index(label), None))
        else:
            why = f"wrongly named: not <action>_<number>.jpg with an action of {', '.join(BAR_NAMES)}"
            problems.append(Problem(files.path(name), why))
    _check_parts(files, "bar", parts, "train/<action>_<number>.jpg and test/<action>_<number>.jpg")
    blocks = [Block(part, items, preparation) for part, items in parts.items()]
    return Listing(files, blocks, BAR_NAMES, None, problems)


def ensemble_bar(files: Files, skew: float, preparation: Preparation, *, valid: bool = False) -> Listing:
    """BAR as BiasEnsemble hands it out: conflicting training images in a folder for each share.

    Nobody said at which places conflicting images were taken, only that it is not their action's own: they share one
    more value of the bias. All test images are conflicting, as in BAR, and so are validation images for all that is
    known. A class is a folder called by its number or its action.

    Raises
    ------
    UserError
        No training or no test images, or none of the share `skew`.
    """
    matches = {name: match for name in files.names if (match := _ENSEMBLE.fullmatch(name))}
    share = _share_of(files, [match["percent"] for match in matches.values()], skew)
    parts: dict[str, list[Item]] = {"train": [], "valid": [], "test": []}
    problems = []
    elsewhere = len(BAR_NAMES)
    # Aligned images come first: the name of their folder does.
    for name, match in sorted(matches.items()):
        if match["percent"] not in (None, share) or (match["part"] == "valid" and not valid):
            continue
        action = match["label"].replace("_", " ").lower()
        target = int(action) if action.isdecimal() else BAR_NAMES.index(action) if action in BAR_NAMES else -1
        if not 0 <= target < elsewhere or not is_image_name(name):
            why = f"not an image in a folder 0 to {elsewhere - 1} or {', '.join(BAR_NAMES)}"
            problems.append(Problem(files.path(name), why))
            continue
        parts[match["part"] or "train"].append(Item(name, target, target if match["kind"] == "align" else elsewhere))
    _check_parts(files, "ensemble_bar", parts, "train/align/<class>, train/conflict/1pct/<class> and test/<class>")
    blocks = [Block(part, parts[part], preparation) for part in PARTS if parts[part]]
    ties = np.full((elsewhere, elsewhere + 1), CONFLICTING, dtype=np.int8)
    np.fill_diagonal(ties, ALIGNED)
    places = (*(f"a place of {action}" for action in BAR_NAMES), "another place")
    return Listing(files, blocks, BAR_NAMES, places, problems, ties=ties)


def _share_of(files: Files, percents: Sequence[str | None], skew: float) -> str | None:
    """Which of the shares that folders name is `skew`; None where none names any."""
    shares = sorted({text for text in percents if text}, key=float)
    share = next((text for text in shares if abs(float(text) - 100 * skew) < 1e-6), None)
    if shares and share is None:
        there = ", ".join(f"skew={float(text) / 100:g}" for text in shares)
        raise UserError(
            f"skew={skew:g}: {files.root} has no folder {100 * skew:g}pct; set one of those it has: {there}"
        )
    return share


def _check_parts(files: Files, dataset: str, parts: dict[str, list[Item]], wanted: str) -> None:
    missing = [part for part in ("train", "test") if not parts[part]]
    if missing:
        raise UserError(f"{files.root} holds no {' and no '.join(missing)} images of {dataset}; expected {wanted}")
