"""Marks on disk: what outlives a killed process, a line that broke off, an edited table and a second process."""

import csv
import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from debias.errors import UserError
from debias.review.marks import Marks

ROOT = Path(__file__).resolve().parents[2]


def start(mined, *words):
    """A real process that serves the run; itself and its address."""
    command = [sys.executable, str(ROOT / "main.py"), "review", "1", f"store={mined.store}", "threads=1", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=mined.store.parent
    )
    seen = []
    for line in process.stdout:
        seen.append(line)
        if found := re.search(r"http://\S+", line):
            return process, found[0]
    raise AssertionError("".join(seen) + process.stderr.read())


def post(address, *marks):
    body = json.dumps({"marks": [{"id": number, "mark": mark} for number, mark in marks]}).encode()
    request = urllib.request.Request(f"{address}marks", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def marked(address):
    with urllib.request.urlopen(f"{address}marks", timeout=30) as answer:
        return {number: mark for number, mark, _ in json.load(answer)["marks"]}


def table(mined):
    with (mined.folder / "reviewed.csv").open(newline="") as handle:
        return {row["path"]: row for row in csv.DictReader(handle)}


def test_a_killed_process_loses_no_mark(mined):
    process, address = start(mined)
    assert post(address, (0, "conflicting"), (3, "fine"))["saved"] == 2
    post(address, (5, "drop"))
    # Immediately: the table of these marks may not be written yet.
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close(), process.stderr.close()
    journal = mined.folder / "review.jsonl"
    # What a machine that loses its power may leave of a line that was being written.
    with journal.open("ab") as handle:
        handle.write(b'{"id": 7, "mark": "fi')
    process, address = start(mined)
    assert marked(address) == {0: "conflicting", 3: "fine", 5: "drop"}
    post(address, (8, "unsure"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in out + err
    assert out.strip().splitlines()[-1].startswith("review ended: 4 of 64 images marked") and out.count("\n") <= 3
    assert "1 lines of" in err and "damaged" in err
    marks = {path: row["mark"] for path, row in table(mined).items() if row["mark"]}
    files = mined.task().files
    assert marks == {str(Path(files[n]).relative_to(mined.photos)): m for n, m in
                     {0: "conflicting", 3: "fine", 5: "drop", 8: "unsure"}.items()}  # fmt: skip
    # The line after the one that broke off is whole.
    assert json.loads(journal.read_text().splitlines()[-2])["id"] == 8


def test_a_second_process_is_refused(mined, served):
    with served(mined) as ask, pytest.raises(UserError, match="is being reviewed already"), served(mined):
        pass
    with served(mined) as ask:
        assert ask("marks")[0] == 200


def test_a_table_of_its_own_is_not_taken_for_an_edited_one(mined, served):
    """Killed between journal and table: the older table says less than the journal, which goes before it."""
    with served(mined) as ask:
        ask.mark(_0="conflicting", _2="fine")
    old = (mined.folder / "reviewed.csv").read_bytes()
    with served(mined) as ask:
        ask.mark(_4="drop", _0="")
    (mined.folder / "reviewed.csv").write_bytes(old)
    with served(mined) as ask:
        assert {number: mark for number, mark, _ in ask("marks")[1]["marks"]} == {2: "fine", 4: "drop"}
        assert ask.session.marks.notes == []


def test_an_edited_table_is_taken(mined, served):
    with served(mined) as ask:
        ask.mark(_0="conflicting", _2="fine")
    path = mined.folder / "reviewed.csv"
    lines = path.read_text().splitlines()
    assert ",fine," in lines[3] and ",conflicting," in lines[1]
    lines[3] = lines[3].replace(",fine,", ",,")
    lines[2] = lines[2].replace(",,,", ",drop,,")
    path.write_text("\n".join(lines) + "\n")
    with served(mined) as ask:
        assert {number: mark for number, mark, _ in ask("marks")[1]["marks"]} == {0: "conflicting", 1: "drop"}
        assert ask.session.marks.notes == [f"2 marks taken from {path}"]
    path.write_text(path.read_text().replace(",drop,", ",dorp,"))
    with (
        pytest.raises(UserError, match="reviewed.csv, line 3: mark 'dorp' is none of .* did you mean drop"),
        served(mined),
    ):
        pass


def test_marks_of_another_run_are_taken_by_path_and_content(mined, served, tmp_path):
    with served(mined) as ask:
        ask.mark(_0="conflicting", _1="fine", _2="drop")
    earlier = tmp_path / "earlier.csv"
    (mined.folder / "reviewed.csv").rename(earlier)
    (mined.folder / "review.jsonl").unlink()
    files = [Path(path) for path in mined.task().files]
    names = [path.relative_to(mined.photos) for path in files]
    # One file more in front, one moved, one that is another image now.
    (mined.photos / "camel" / "a new one.jpg").write_bytes(files[0].read_bytes()[:-2] + b"x\xff\xd9")
    files[1].rename(mined.photos / "camel" / "zz moved.jpg")
    files[2].write_bytes(files[3].read_bytes()[:-2] + b"y\xff\xd9")
    mined.mine()
    with served(mined, marks=str(earlier)) as ask:
        state = ask("state")[1]
        found = {Path(state["name"][state["id"].index(n)]).name: m for n, m, _ in state["marks"]}
        assert found == {names[0].name: "conflicting", "zz moved.jpg": "fine"}


def test_a_failed_write_leaves_no_half_line_before_the_next(mined, served, monkeypatch):
    with served(mined) as ask:
        real = ask.session.marks._handle

        class Full:
            def __getattr__(self, name):
                return getattr(real, name)

            def write(self, data):
                return real.write(data[:10])

        monkeypatch.setattr(ask.session.marks, "_handle", Full())
        assert ask("marks", {"marks": [{"id": 1, "mark": "fine"}]})[0] == 507
        monkeypatch.setattr(ask.session.marks, "_handle", real)
        ask.mark(_2="drop")
    (mined.folder / "reviewed.csv").unlink()
    with served(mined) as ask:
        assert [each[:2] for each in ask("marks")[1]["marks"]] == [[2, "drop"]]


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "[]",
        '{"id": 9}',
        '{"id": 10, "mark": 3}',
        "\x00\xff",
        "{" * 20000,
        '{"id": 1, "mark": "fine", "content": "00"}',
    ],
)
def test_damaged_lines_are_skipped(mined, served, line):
    journal = mined.folder / "review.jsonl"
    journal.write_text(f"{line}\n", encoding="latin-1")
    with served(mined) as ask:
        assert ask("marks")[1]["marks"] == [] and "1 lines of" in ask.session.marks.notes[0]


def test_a_folder_that_cannot_be_written_to_is_said(mined):
    with pytest.raises(UserError, match="review.jsonl: cannot be used"):
        Marks(mined.folder / "config.json", [], [], [])
