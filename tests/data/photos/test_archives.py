"""Folders and archives as sources of files: what is listed, what is read, and what cannot lead outside."""

import io
import os
import struct
import tarfile
import zipfile

import pytest

from debias.data.photos.archives import MAX_FILE_BYTES, FolderFiles, open_files
from debias.errors import UserError

CONTENT = {"a/1.png": b"one", "a/2.png": b"two" * 1000, "b/3.png": b""}


def read(files):
    names = files.names
    return {names[position]: content() for position, content in files.each(names)}


def as_folder(path):
    for name, content in CONTENT.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(CONTENT):
            archive.writestr(name, CONTENT[name])
    return path.with_suffix(".zip")


def as_tar(path, suffix=".tar.gz"):
    path = path.with_name(path.name + suffix)
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as archive:
        for name in reversed(CONTENT):
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(CONTENT[name])
            archive.addfile(member, io.BytesIO(CONTENT[name]))
    return path


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar, lambda path: as_tar(path, ".tar")])
def test_every_source_gives_the_same_files_in_the_same_order(tmp_path, pack):
    files = open_files(pack(tmp_path / "set"))
    assert files.names == sorted(CONTENT)
    assert read(files) == CONTENT
    assert {name: size for name, (size, _) in files.stamps.items()} == {name: len(c) for name, c in CONTENT.items()}
    # some of them, in another order
    some = ["b/3.png", "a/1.png"]
    assert {some[position]: content() for position, content in files.each(some)} == {n: CONTENT[n] for n in some}


def test_litter_is_passed_over(tmp_path):
    for name in ("a/.DS_Store", "a/._1.png", "a/Thumbs.db", ".cache/x.png", "__MACOSX/a/1.png", "a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert open_files(tmp_path).names == ["a/1.png"]


def test_links_to_folders_are_followed_once(tmp_path):
    as_folder(tmp_path / "set")
    (tmp_path / "set" / "a" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "4.png").write_bytes(b"four")
    assert FolderFiles.below(tmp_path / "set").names == [*sorted(CONTENT), "c/4.png"]


@pytest.mark.parametrize("name", ["../out.png", "/abs.png", "a/../../out.png", "a\\..\\out.png"])
def test_members_that_lead_outside_do_not_exist(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(name, b"evil")
        archive.writestr("a/1.png", b"one")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for inside in (name, "a/1.png"):
            archive.addfile(tarfile.TarInfo(inside))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    for archive in ("set.zip", "set.tar"):
        files = open_files(tmp_path / archive)
        assert files.names == ["a/1.png"]
        read(files)
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_a_damaged_member_is_told_from_a_damaged_archive(tmp_path):
    path = as_zip(tmp_path / "set")
    raw = bytearray(path.read_bytes())
    start = raw.index(b"two") if b"two" in raw else zipfile.ZipFile(path).getinfo("a/2.png").header_offset + 40
    raw[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    files = open_files(path)
    reads = {files.names[position]: content for position, content in files.each(files.names)}
    assert reads["a/1.png"]() == b"one"
    with pytest.raises(ValueError, match="damaged in the archive"):
        reads["a/2.png"]()


@pytest.mark.parametrize("pack", [as_zip, as_tar])
def test_an_archive_cut_short(tmp_path, pack):
    path = pack(tmp_path / "set")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"set\.(zip|tar\.gz) cannot be read .*damaged or incomplete"):
        read(open_files(path))


def test_a_member_that_claims_too_much_is_not_read(tmp_path):
    claimed = MAX_FILE_BYTES + 1
    packed = as_zip(tmp_path / "set")
    packed.write_bytes(packed.read_bytes().replace(struct.pack("<I", 3000), struct.pack("<I", claimed)))
    sparse = tmp_path / "set.tar"
    member = tarfile.TarInfo("a/2.png")
    member.size = claimed
    with sparse.open("wb") as file:
        file.write(member.tobuf())
        file.truncate(512 + claimed + 2048)  # of zeros, which take no room
    for path in (packed, sparse):
        files = open_files(path)
        with pytest.raises(ValueError, match=f"{claimed} bytes, more than"):
            [content() for _, content in files.each(["a/2.png"])]


def test_neither_folder_nor_archive(tmp_path):
    with pytest.raises(UserError, match="neither a folder nor an archive"):
        open_files(tmp_path / "nothing.rar")


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz"])
@pytest.mark.parametrize("lost", [1, 6, 30])
def test_a_compressed_archive_without_its_end_is_refused(tmp_path, suffix, lost):
    path = as_tar(tmp_path / "x", suffix)
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(UserError, match="damaged or incomplete"):
        open_files(path)


def test_a_member_that_is_too_large_is_a_fault_of_its_own(tmp_path, monkeypatch):
    path = as_tar(tmp_path / "x")
    monkeypatch.setattr("debias.data.photos.archives.MAX_FILE_BYTES", 100)
    files = open_files(path)
    found = {}
    for position, content in files.each(files.names):
        try:
            found[files.names[position]] = content()
        except ValueError as error:
            found[files.names[position]] = str(error)
    assert found["a/1.png"] == b"one" and "more than" in found["a/2.png"] and found["b/3.png"] == b""


def test_a_zip_of_a_version_that_is_not_known(tmp_path):
    path = as_zip(tmp_path / "x")
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 6 : place + 8] = (255).to_bytes(2, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged or incomplete"):
        open_files(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_a_broken_member_of_a_zip_is_a_fault_of_its_own(tmp_path, method):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.png", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(bytes(content))
    files = open_files(path)
    ((_, read_it),) = files.each(files.names)
    with pytest.raises(ValueError, match="damaged in the archive"):
        read_it()


def test_pipes_are_faults_and_folders_that_cannot_be_read_are_named(tmp_path):
    root = as_folder(tmp_path / "in")
    os.mkfifo(root / "a" / "0.png")
    files = FolderFiles.below(root)
    readers = {files.names[position]: reader for position, reader in files.each(files.names)}
    with pytest.raises(ValueError, match="not a regular file"):
        readers["a/0.png"]()
    assert readers["a/1.png"]() == b"one"
