"""The user's own images: class folders, or a CSV of paths with targets and, where they are known, biases and splits.

FOLDER/<class>/…                          a share of each class becomes the test set
FOLDER/train/<class>/…, FOLDER/test/<class>/…, and where there is one FOLDER/valid/<class>/…; also with names that begin
or end so (training_set, seg_test), and with a folder around (`data.photos.arrangement`)
FOLDER and labels.csv: columns path (below FOLDER) and target, and optionally bias and split (train, valid, test)
FOLDER and a reviewed.csv, which says the same, and by its marks which images are left out (`data.reviewed`)
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from debias.data.photos.archives import Files, FolderFiles, is_image_name, open_files
from debias.data.photos.arrangement import PART_NAMES, arranged
from debias.data.photos.listing import PARTS, Block, Item, Listing, Problem
from debias.data.photos.reviewed import MARKED, Reviewed
from debias.data.preparation import Preparation
from debias.data.ties import find_ties, is_diagonal, order_of, ties_notes
from debias.errors import UserError
from debias.harmless import plain
from debias.rawfiles import read_text, table_rows
from debias.settings import nearest

COLUMNS = ("path", "target", "bias", "split")


class Labelled(NamedTuple):
    """part : None where the user did not say."""

    name: str
    target: str
    bias: str | None
    part: str | None


def class_folders(root: Path, preparation: Preparation, test_fraction: float, valid: bool = True) -> Listing:
    """List the images of class folders, in a folder or an archive.

    Raises
    ------
    UserError
        No such folder, fewer than two classes, a part without images, or folders that may be classes or parts.
    """
    files = open_files(root)
    arrangement = arranged(root, [name for name in files.names if is_image_name(name)])
    rows, problems = [], []
    for name in files.names:
        label, part = arrangement.place(name)
        if not is_image_name(name):
            # Notes and tables lie beside the class folders; among the images they are a mistake.
            if label is not None:
                problems.append(Problem(files.path(name), "wrongly named: its ending is not that of an image"))
        elif label is None:
            problems.append(Problem(files.path(name), "not in a class folder"))
        else:
            rows.append(Labelled(name, plain(label), None, part))
    if len({row.target for row in rows}) < 2:
        found = ", ".join(sorted({row.target for row in rows})) or "none"
        raise UserError(
            f"{root} has images of fewer than two classes ({found}); expected a folder for each class, or "
            "train/ and test/ with a folder for each class in them, or labels=FILE.csv"
        )
    listing = _listing(files, rows, problems, preparation, test_fraction, valid)
    listing.notes += arrangement.notes()
    return listing


def labelled(
    root: Path | None,
    labels: str,
    preparation: Preparation,
    test_fraction: float,
    *,
    valid: bool = True,
    outside: bool = False,
) -> Listing:
    """List the images that a CSV names.

    Parameters
    ----------
    root
        Folder that the paths are below; None: the CSV's own.
    labels
        The CSV: a path, also one below `root`.
    preparation, test_fraction, valid
        As for `class_folders`.
    outside
        Whether paths may lead out of `root`.

    Raises
    ------
    UserError
        No such file, columns missing, paths that lead out, fewer than two classes, or a part without images.
    """
    table = next((path for path in (Path(root or ".") / labels, Path(labels)) if path.exists()), None)
    if table is None:
        raise UserError(f"labels={labels}: there is no such file" + (f", nor in {root}" if root else ""))
    folder = root or table.parent
    lines = _read_table(table)
    reviewed = Reviewed(str(table), folder, lines)
    lines = reviewed.kept
    has_bias, paths = "bias" in lines[0][1], {}
    rows: list[Labelled] = []
    problems, left = [], []
    home = folder.resolve()
    for number, line in lines:
        where, name = f"{table}, line {number}", reviewed.path(line)
        target, bias = plain(line["target"].strip()), plain(line.get("bias", "").strip()) if has_bias else None
        path = folder / name
        cannot = _unusable(path)
        missing = [what for what, value in (("path", name), ("target", target), ("bias", bias)) if value == ""]
        if "" in line:
            problems.append(Problem(where, f"more cells than there are columns: {line[''][:50]}"))
        elif cannot:
            problems.append(Problem(where, cannot))
        elif missing:
            problems.append(Problem(where, f"no {' and no '.join(missing)}"))
        elif not outside and not path.resolve().is_relative_to(home):
            left.append(f"  {where}: {name}")
        elif not is_image_name(name):
            problems.append(Problem(f"{where}: {path}", "wrongly named: its ending is not that of an image"))
        elif os.path.normpath(name) in paths:
            problems.append(Problem(where, f"{name} is listed before"))
        elif not path.is_file():
            problems.append(Problem(f"{where}: {path}", "no such file"))
        else:
            paths[os.path.normpath(name)] = path
            rows.append(Labelled(os.path.normpath(name), target, bias, _part(line.get("split"), where)))
    if left:
        raise UserError(
            "\n".join([f"labels={labels}: paths that lead out of {folder}:", *left[:20]])
            + "\nSet outside=True if that is meant"
        )
    if len({row.target for row in rows}) < 2:
        raise UserError(f"{table} names images of fewer than two classes" + _first(problems))
    notes = _check_spelling(str(table), {row.target for row in rows})
    if has_bias and len({row.bias for row in rows}) < 2:
        raise UserError(f"{table}: all images have the same bias; leave the column out")
    listing = _listing(FolderFiles(folder, paths), rows, problems, preparation, test_fraction, valid)
    listing.notes += notes + reviewed.notes()
    return listing


def _unusable(path: Path) -> str:
    """Why nothing can be at a path; empty where something can."""
    try:
        path.resolve().exists()
    except (OSError, ValueError, RuntimeError) as error:
        return f"its path cannot be used ({getattr(error, 'strerror', None) or error})"
    return ""


def _check_spelling(table: str, targets: set[str]) -> list[str]:
    """Refuse classes that differ in capitals alone; a line about numbers among names."""
    by_letters: dict[str, str] = {}
    for target in sorted(targets):
        other = by_letters.setdefault(target.casefold(), target)
        if other != target:
            raise UserError(f"{table}: classes {other} and {target} differ in capitals alone; spell them one way")
    numbers = sorted(target for target in targets if target.isdecimal())
    if numbers and len(numbers) < len(targets):
        return [f"classes are numbers and names: {', '.join(sorted(targets)[:10])}; is that meant?"]
    return []


def _first(problems: Sequence[Problem]) -> str:
    return (
        f"; {len(problems)} lines cannot be used, the first: {problems[0].path}: {problems[0].what}" if problems else ""
    )


def _read_table(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Lines with their numbers; comma, semicolon or tab between columns."""
    text = read_text(table, f"labels={table}")
    head = text.split("\n", 1)[0]
    names, rows = table_rows(text, str(table), max(",;\t", key=head.count))
    columns = [name.lower() for name in names]
    for wanted in ("path", "target"):
        if wanted not in columns:
            raise UserError(
                f"{table} has no column {wanted}; its columns are {', '.join(columns)}; known are {', '.join(COLUMNS)}"
            )
    missing = [column for column in COLUMNS if column not in columns]
    for column in columns:
        # Further columns are nobody's concern, but for one that looks like a misspelt one of ours that is not there.
        if column not in COLUMNS and _misspelt(column, missing):
            raise UserError(f"{table}: column {column!r} is not known{nearest(column, missing)}")
    lines = [
        (number, {name.lower(): value for name, value in row.items() if name.lower() in ("", *COLUMNS, *MARKED)})
        for number, row in rows
    ]
    if not lines:
        raise UserError(f"{table} has no lines below its header")
    return lines


def _misspelt(column: str, missing: Sequence[str]) -> bool:
    """Whether a column is likely one of the missing ones: nearly all of its letters are those of its name."""
    return bool(difflib.get_close_matches(column, missing, n=1, cutoff=0.75))


def _part(text: str | None, where: str) -> str | None:
    if text is None:
        return None
    part = PART_NAMES.get(text.strip().lower())
    if part is None:
        raise UserError(f"{where}: split {text!r} is none of {', '.join(PARTS)}")
    return part


def _listing(
    files: Files,
    rows: list[Labelled],
    problems: list[Problem],
    preparation: Preparation,
    test_fraction: float,
    valid: bool,
) -> Listing:
    targets = sorted_names({row.target for row in rows})
    biases = None if rows[0].bias is None else sorted_names({row.bias or "" for row in rows})
    parts: dict[str, list[Item]] = {part: [] for part in PARTS}
    drawn = set() if any(row.part for row in rows) else _draw_test(rows, test_fraction)
    given = {row.part for row in rows}
    ties, notes = None, []
    if biases is not None:
        trained = [row for row in rows if (row.part or ("test" if row.name in drawn else "train")) == "train"]
        biases, ties = tied(targets, biases, [(row.target, row.bias or "") for row in trained])
        notes += ties_notes(ties, targets, biases)
    for row in rows:
        part = row.part or ("test" if row.name in drawn else "train")
        if "test" not in given and part == "valid":
            part = "test"
        bias = None if biases is None else biases.index(row.bias or "")
        parts[part].append(Item(row.name, targets.index(row.target), bias))
    for part in ("train", "test"):
        if not parts[part]:
            raise UserError(f"{files.root}: no {part} images; name a {part} part, or none at all and set test_fraction")
    blocks = [Block(part, items, preparation) for part, items in parts.items() if items and (valid or part != "valid")]
    if "valid" in given and "test" not in given:
        notes.append(
            "no test images, so the validation images are the test set, and `oracle` is chosen on them; "
            "name a test part as well to keep them apart"
        )
    return Listing(files, blocks, targets, biases, problems, notes, None if ties is None or is_diagonal(ties) else ties)


def tied(
    targets: Sequence[str], biases: Sequence[str], pairs: Sequence[tuple[str, str]]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Biases in the order of the targets that they are tied to, and whether each cell is aligned (`data.ties`).

    pairs : (target, bias) of every training image
    """
    counts = np.zeros((len(targets), len(biases)), dtype=np.int64)
    places = ({name: place for place, name in enumerate(names)} for names in (targets, biases))
    rows, columns = places
    np.add.at(counts, ([rows[target] for target, _ in pairs], [columns[bias] for _, bias in pairs]), 1)
    ties = find_ties(counts)
    order = order_of(ties)
    return tuple(biases[i] for i in order), ties[:, order]


def _draw_test(rows: Sequence[Labelled], fraction: float) -> set[str]:
    """Names of the test images: round(fraction * n) of each class, at least one where there are two.

    They are drawn by their names alone: every seed is tested on the same images, and a new image moves few others.
    """
    chosen: set[str] = set()
    for target in {row.target for row in rows}:
        names = sorted((row.name for row in rows if row.target == target), key=_shuffled)
        count = max(round(fraction * len(names)), 1 if len(names) > 1 and fraction > 0 else 0)
        chosen |= set(names[: min(count, len(names) - 1)])
    return chosen


def _shuffled(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()


def sorted_names(names: set[str]) -> tuple[str, ...]:
    """Names sorted, numbers by their value."""
    # isdigit would also take superscripts and circled digits, and int refuses thousands of digits.
    numbers = {name: int(name) if name.isdecimal() and len(name) < 100 else None for name in names}
    return tuple(sorted(names, key=lambda name: (numbers[name] is None, numbers[name] or 0, name)))
