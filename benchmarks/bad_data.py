"""Data sets that are not what they should be, by the name of a case."""

import debias.waiting  # noqa: F401 - before torch

import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bad_kit import HOSTILE, PHOTOS, BadInput, Kit, picture
from benchmarks.bad_weights import tar_with_bomb
from debias.data.sources.cifar_files import CLASSES

TRAIN = [
    "with",
    "own_images",
    "erm",
    "quick",
    "image_size=32",
    "pretrain.network=mlp3",
    "pretrain.epochs=1",
    "progress=False",
    "threads=1",
]
QUOTED = '"' + "x" * 140_000


def data_case(name: str, words: list[str], kit: Kit, folder: Path) -> BadInput | None:
    """The case of this name; None where nothing is known of it."""
    fault = name.removeprefix("data_")
    for start, make in (
        ("labels_", _labels), ("celeba_", _celeba), ("cifar_", _cifar), ("jitter_", _jitter), ("mnist_", _mnist),
        ("own_", _own), ("zip_", _archive), ("t", _archive), ("suspects_", _suspects),
    ):  # fmt: skip
        if fault.startswith(start):
            return make(fault if make is _archive else fault.removeprefix(start), kit, folder)
    return None


def _case(kit: Kit, folder: Path, words: list[str], **more: Any) -> BadInput:
    return BadInput(lambda: kit.main(kit.words(words, folder)), **more)


def _labels(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    root = kit.photos(folder.parent / "photos")
    rows = [[path.relative_to(root).as_posix(), path.parent.name] for path in sorted(root.rglob("*.png"))]
    head, more = ["path", "target"], ""
    case: dict[str, Any] = {}
    if fault == "bias_superscript":
        head, rows = [*head, "bias"], [[*row, "²" if number % 2 else "1"] for number, row in enumerate(rows)]
        case["fine"] = True
    elif fault == "column_twice":
        head, rows = [*head, "target"], [[*row, "x"] for row in rows]
    elif fault == "long_path":
        rows.append(["y" * 300 + ".png", "cat"])
    elif fault == "long_row":
        rows[0] = [*rows[0], "more", "cells"]
    elif fault == "nul_path":
        rows.append(["a\0b.png", "cat"])
    elif fault in ("targets_case", "targets_mixed"):
        rows = [[path, target if number % 2 else {"case": target.upper(), "mixed": "7"}[fault[8:]]]
                for number, (path, target) in enumerate(rows)]  # fmt: skip
        case["said"] = "is that meant"
    elif fault == "targets_superscript":
        rows = [[path, {"cat": "²", "dog": "1"}[target]] for path, target in rows]
        case["fine"] = True
    elif fault == "unclosed_quote_100k":
        more = QUOTED
    else:
        return None
    (root / "labels.csv").write_text("".join(",".join(row) + "\n" for row in [head, *rows]) + more, encoding="utf-8")
    return _case(kit, folder, [*PHOTOS, f"data_dir={root}", "labels=labels.csv"], **case)


def _celeba(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    from tests import photos

    root = photos.celeba(folder.parent / "data")
    attributes, partition = root / "celeba" / "list_attr_celeba.txt", root / "celeba" / "list_eval_partition.txt"
    found = {path.name: path for path in folder.parent.rglob("list_*")}
    attributes, partition = found["list_attr_celeba.txt"], found["list_eval_partition.txt"]
    path = attributes if fault.startswith("attr") else partition
    lines = [line.split() for line in path.read_text().splitlines()]
    head = ["image_id", *(lines[1] if path == attributes else ["partition"])]
    rows = lines[2:] if path == attributes else lines
    path.unlink()
    text = "\n".join(",".join(row) for row in [head, *rows]) + "\n"
    if fault.endswith("long_field"):
        text += "x" * 140_000 + ",1\n"
    elif fault.endswith("only_id"):
        text = "image_id\n" + "".join(f"{row[0]}\n" for row in rows)
    elif fault.endswith("unclosed"):
        text += QUOTED
    else:
        return None
    path.with_suffix(".csv").write_text(text)
    words = f"samples with celeba data_dir={folder.parent / 'data'} image_size=32 skew=0.05 progress=False threads=1"
    return _case(kit, folder, words.split())


def _cifar(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    root = folder.parent / "data"
    tree = root / "cifar10"
    for part in ("train", "test"):
        for number, label in enumerate(CLASSES):
            (tree / part / label).mkdir(parents=True)
            for i in range(2):
                picture(number, i).save(tree / part / label / f"{i:03d}.png")
    first = tree / "train" / CLASSES[0] / "000.png"
    if fault.startswith("folder_"):
        first.unlink()
        kind = fault.removeprefix("folder_")
        if kind == "fifo":
            os.mkfifo(first)
        else:
            first.symlink_to(first.name if kind == "loop" else "nothere.png")
    else:
        method = zipfile.ZIP_LZMA if "lzma" in fault else zipfile.ZIP_DEFLATED
        _zip(tree, root / "cifar10.zip", method)
        shutil.rmtree(tree)
        _spoil_member(root / "cifar10.zip", "000.png")
    words = f"samples with corrupted_cifar10 data_dir={root} progress=False threads=1"
    return _case(kit, folder, [*words.split(), f"cache_dir={folder / 'cache'}"])


def _zip(tree: Path, path: Path, method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(tree.rglob("*.png")):
            archive.write(file, file.relative_to(tree).as_posix())


def _spoil_member(path: Path, name: str) -> None:
    """Overwrite the packed bytes of the first member of that name."""
    with zipfile.ZipFile(path) as archive:
        about = next(info for info in archive.infolist() if info.filename.endswith(name))
    content = bytearray(path.read_bytes())
    start = about.header_offset + 30 + len(about.filename) + 12
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(bytes(content))


def _jitter(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    n = 5
    labels: Any = np.zeros(n, dtype=np.int64) if "2d" not in fault else np.zeros((n, 2), dtype=np.int64)
    labels = np.array(3) if "scalar" in fault else labels
    images = np.zeros((n, 28, 28, 3), dtype=np.uint8)
    np.savez(
        folder / "mnist_10color_jitter_var_0.030.npz", train_image=images, train_label=labels, test_image=images,
        test_label=labels, test_gray=images[..., 0],
    )  # fmt: skip
    return _case(kit, folder, ["samples", "with", "jitter_released", f"data_dir={folder}"])


def _mnist(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    from debias.data.sources.idx import IDX_FILES

    root = folder.parent / "data" / "MNIST" / "raw"
    root.mkdir(parents=True)
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as file:
        for _ in range(600):
            file.write(bytes(2**20))
    for stem, _ in IDX_FILES:
        (root / f"{stem}.gz").write_bytes(packed.getvalue())
    return _case(kit, folder, ["samples", "with", "colored_mnist", f"data_dir={root.parents[1]}", "progress=False"])


def _own(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    root = folder.parent / "photos"
    case: dict[str, Any] = {}
    words = [*PHOTOS, f"data_dir={root}"]
    if fault == "500_classes":
        kit.photos(root, tuple(f"class {number}" for number in range(500)), 3)
        return _case(kit, folder, [*TRAIN, f"data_dir={root}", "duplicates=keep"], fine=True)
    kit.photos(root, each=13 if "rest1" in fault else 6)
    bad = root / "cat" / "x.png"
    latin = os.fsdecode(b"caf\xe9.png")
    if fault.startswith("batch_"):
        size = 1 if fault == "batch_1" else 4
        network = "resnet20" if fault.endswith("resnet8") else "resnet18"
        side = 8 if fault.endswith("resnet8") else 32
        more = [f"data_dir={root}", f"pretrain.network={network}", f"pretrain.batch_size={size}", f"image_size={side}"]
        words, case["fine"] = [word for word in [*TRAIN, *more] if word != "pretrain.network=mlp3"], True
        words = [word for word in words if word != "image_size=32" or side == 32]
        words = list(dict.fromkeys(words))
    elif fault == "checkpoint_other_classes":
        kit.main(kit.words([*TRAIN, f"data_dir={root}"], folder))
        (root / "dog").rename(root / "bird")
        words = ["evaluate", "with", "own_images", f"data_dir={root}", "image_size=32", "threads=1"]
        words += [f"checkpoint={folder / 'runs' / '1' / 'weights.safetensors'}"]
    elif fault in ("devzero", "fifo", "sparse_1tb"):
        if fault == "devzero":
            bad.symlink_to("/dev/zero")
        elif fault == "fifo":
            os.mkfifo(bad)
        else:
            with bad.open("wb") as file:
                file.truncate(2**40)
    elif fault == "hostile_broken_files":
        (root / "cat" / f"{HOSTILE}.png").write_bytes(b"x")
    elif fault == "latin1_broken_many":
        for number in range(30):
            (root / "cat" / f"{number}{latin}").write_bytes(b"x%d" % number)
        words, case["said"] = [*words, "bad_files=skip"], "left out"
    elif fault == "latin1_file_mine":
        picture(0, 77).save(root / "cat" / latin)
        words = [word for word in TRAIN if word != "erm"]
        words = ["mine", *words, f"data_dir={root}", "method=[pretrain,mine_wrong]"]
        case["fine"] = True
    elif fault == "latin1_predict":
        picture(0, 77).save(root / "cat" / latin)
        words = ["predict", "with", f"checkpoint={kit.weights}", f"folder={root}"]
        case["fine"] = True
    else:
        return None
    return _case(kit, folder, words, **case)


def _archive(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    tree = kit.photos(folder.parent / "tree")
    name = {"tar": "a.tar.gz", "targz": "a.tar.gz", "tarxz": "a.tar.xz", "tgz": "a.tgz", "zip": "a.zip"}[
        fault.partition("_")[0]
    ]
    path = folder.parent / name
    if fault == "tar_member_bomb":
        tar_with_bomb(path)
    elif fault.startswith("t"):
        with tarfile.open(path, "w:xz" if name.endswith("xz") else "w:gz") as archive:
            archive.add(tree, ".")
        content = bytearray(path.read_bytes())
        if fault.endswith("tail"):
            content = content[:-6]
        else:
            middle = len(content) // 2
            content[middle : middle + 200] = b"\xff" * 200
        path.write_bytes(bytes(content))
    else:
        if fault == "zip_escape_names":
            (tree / "cat" / f"{HOSTILE}.png").write_bytes(b"x")
        _zip(tree, path, zipfile.ZIP_LZMA if "lzma" in fault else zipfile.ZIP_DEFLATED)
        content = bytearray(path.read_bytes())
        central = content.index(b"PK\x01\x02")
        if fault == "zip_lzma_broken":
            _spoil_member(path, "000.png")
        elif fault in ("zip_version", "zip_fuzz_dir_2"):
            content[central + 6 : central + 8] = (255 if fault == "zip_version" else 66).to_bytes(2, "little")
            path.write_bytes(bytes(content))
    return _case(kit, folder, [*PHOTOS, f"data_dir={path}"])


def _suspects(fault: str, kit: Kit, folder: Path) -> BadInput | None:
    os.mkfifo(folder / "s.csv")
    words = [
        "with",
        "colored_digits",
        "quick",
        "limit=60",
        "threads=1",
        "progress=False",
        "method=[pretrain,mine_file,finetune]",
    ]
    return _case(kit, folder, [*words, f"mine_file.path={folder / 's.csv'}"])
