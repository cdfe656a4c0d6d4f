"""Files for a machine without internet: packed small, unpacked to the same bytes, and nothing damaged passes."""

import hashlib
import io
import lzma
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import carried

REAL = Path(os.environ.get("DATA_DIR", ""))


def save_zip(path: Path, images: int) -> None:
    """A zip of small JPEG files of random noise, stored as they are."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(images):
            content = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(content, "JPEG")
            archive.writestr(f"train/cat/{number:04}.jpg", content.getvalue())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """MNIST's names with other content, two of them not compressed, and a zip of JPEG files."""
    folder = tmp_path / "source"
    (folder / "mnist").mkdir(parents=True)
    for number, stem in enumerate(carried.MNIST):
        (folder / "mnist" / (stem if number % 2 else f"{stem}.gz")).write_bytes(os.urandom(2000 + number))
    save_zip(folder / "cifar10.zip", images=200)
    return folder


def files_of(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_bytes_come_back(source: Path, tmp_path: Path) -> None:
    carried.pack(source, tmp_path / "packed")
    carried.unpack(tmp_path / "packed", tmp_path / "unpacked")
    assert files_of(tmp_path / "unpacked") == files_of(source)
    assert len(files_of(source)) == 5


def test_tables_that_jpeg_files_share_take_no_room(source: Path, tmp_path: Path) -> None:
    carried.pack(source, tmp_path / "packed")
    whole, small = source / "cifar10.zip", tmp_path / "packed" / "cifar10.zip.xz"
    # The tables of a colour image of Pillow's have 623 bytes.
    assert whole.stat().st_size - small.stat().st_size > 200 * 550


def test_what_is_there_is_not_unpacked_again(source: Path, tmp_path: Path) -> None:
    carried.pack(source, tmp_path / "packed")
    carried.unpack(tmp_path / "packed", tmp_path / "unpacked")
    for path in (tmp_path / "packed").rglob("*.xz"):
        path.unlink()
    carried.unpack(tmp_path / "packed", tmp_path / "unpacked")
    (tmp_path / "unpacked" / "cifar10.zip").write_bytes(b"other")
    with pytest.raises(carried.CarryError, match=r"cifar10\.zip cannot be unpacked.*pack it again"):
        carried.unpack(tmp_path / "packed", tmp_path / "unpacked")


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_nothing_damaged_is_unpacked(source: Path, tmp_path: Path, damage: str) -> None:
    carried.pack(source, tmp_path / "packed")
    path = tmp_path / "packed" / "cifar10.zip.xz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"cut": bytes(content[:-100]), "changed": bytes(content), "other": lzma.compress(b"a zip")}[damage]
    )
    with pytest.raises(carried.CarryError, match=r"cifar10\.zip .*pack it again"):
        carried.unpack(tmp_path / "packed", tmp_path / "unpacked")
    assert not (tmp_path / "unpacked" / "cifar10.zip").exists()


def test_names_stay_in_the_folder(source: Path, tmp_path: Path) -> None:
    carried.pack(source, tmp_path / "packed")
    sums = tmp_path / "packed" / carried.SUMS
    sums.write_text(sums.read_text().replace("  mnist/", "  ../mnist/"))
    with pytest.raises(carried.CarryError, match="outside the folder"):
        carried.unpack(tmp_path / "packed", tmp_path / "unpacked")


def test_faults_of_the_user_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert carried.main(["pack", str(tmp_path), str(tmp_path / "packed")]) == 1
    assert carried.main(["unpack", str(tmp_path), str(tmp_path / "unpacked")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "MNIST's four files are not there" in first
    assert "pack_for_gpu.sh" in second
    assert carried.main([]) == 2


@pytest.mark.real
@pytest.mark.skipif(not (REAL / carried.CIFAR[0]).is_file(), reason="DATA_DIR has no cifar10_jpeg.zip")
def test_real_jpeg_files_come_back(source: Path, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(REAL / carried.CIFAR[0]) as real,
        zipfile.ZipFile(source / carried.CIFAR[0], "w") as few,
    ):
        for info in real.infolist()[::2000]:
            few.writestr(info, real.read(info))
    carried.pack(source, tmp_path / "packed")
    carried.unpack(tmp_path / "packed", tmp_path / "unpacked")
    with (
        zipfile.ZipFile(tmp_path / "unpacked" / carried.CIFAR[0]) as back,
        zipfile.ZipFile(REAL / carried.CIFAR[0]) as real,
    ):
        assert len(back.namelist()) == 30
        assert all(back.read(name) == real.read(name) for name in back.namelist())
