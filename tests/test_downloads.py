"""Downloads: a server that says nothing, one that is not there, and processes that want the same."""

import socket
import urllib.request

from debias.downloads import TIMEOUT, fetch


def test_a_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("debias.downloads.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        failure = fetch(tmp_path / "new", "file", lambda: urllib.request.urlopen(address).read())
    assert failure is not None and "timed out" in failure and "\n" not in failure
    assert socket.getdefaulttimeout() is None


def test_what_goes_wrong_is_one_line_and_the_limit_is_taken_back(tmp_path):
    limits = []

    def download() -> None:
        limits.append(socket.getdefaulttimeout())
        raise RuntimeError("File not found\n  or corrupted.")

    assert fetch(tmp_path, "file", download) == "RuntimeError: File not found or corrupted."
    assert limits == [TIMEOUT] and socket.getdefaulttimeout() is None


def test_a_download_is_made_in_its_folder(tmp_path):
    target = tmp_path / "a" / "b"
    assert fetch(target, "file", lambda: (target / "file").write_bytes(b"x")) is None
    assert (target / "file").read_bytes() == b"x"


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in str(fetch(tmp_path / "file" / "below", "file", lambda: None))
