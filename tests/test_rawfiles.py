"""Files and tables from outside: other than regular files are not waited for; a bad row is named by its line."""

import os

import pytest

from debias.errors import UserError
from debias.rawfiles import check_regular, read_regular, read_text, replaced_whole, table_rows


def special(path, kind):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nothere")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "sparse", "loop", "dangling"])
def test_special_files_are_refused_at_once(tmp_path, kind):
    special(tmp_path / "x", kind)
    with pytest.raises((OSError, ValueError)):
        read_regular(tmp_path / "x")
    with pytest.raises(UserError, match="^labels=x cannot be read"):
        read_text(tmp_path / "x", "labels=x")
    if kind != "sparse":
        with pytest.raises(OSError):
            check_regular(tmp_path / "x")


def test_regular_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9")
    assert read_text(tmp_path / "a", "a") == "café"
    (tmp_path / "b").symlink_to("a")
    assert len(read_regular(tmp_path / "b")) == 8
    (tmp_path / "c").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match="must be in UTF-8"):
        read_text(tmp_path / "c", "c")
    with pytest.raises(ValueError, match="more than"):
        read_regular(tmp_path / "a", most=3)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    with replaced_whole(path) as partial:
        partial.write_text("one")
    with pytest.raises(KeyError), replaced_whole(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("x", "one")]


def test_rows_and_their_lines():
    names, rows = table_rows('a, b\n1,2\n\n"x\ny",3,4\n5\n', "t.csv")
    assert names == ["a", "b"]
    assert rows == [(2, {"a": "1", "b": "2"}), (5, {"a": "x\ny", "b": "3", "": "4"}), (6, {"a": "5", "b": ""})]
    assert table_rows("", "t.csv") == ([], [])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('a,b\n"' + "x" * 140_000, "line 2: field larger"),
        ("a,b\n" + "x" * 140_000 + ",1\n", "line 2: field larger"),
        ("a,b\n1,\0\n", "line 2: .*NUL"),
        ("a,b,A\n1,2,3\n", "two columns are called a"),
    ],
)
def test_tables_that_cannot_be_read(text, what):
    with pytest.raises(UserError, match=f"^t.csv.*{what}"):
        table_rows(text, "t.csv")
