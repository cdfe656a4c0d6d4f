"""How the programs end: a status, and one line for what the user can fix."""

import errno
import os
import subprocess
import sys

import pytest

from debias.endings import status_of
from debias.errors import UserError
from debias.training.code import ROOT


def fails(error: BaseException):
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no such thing"), 2, "error: no such thing\n"),
        (UserError("mongodb://me:secret@host/db: no answer"), 2, "error: mongodb://host/db: no answer\n"),
        (UserError("a\x1b[31mname"), 2, "error: a\\x1b[31mname\n"),
        (KeyboardInterrupt(), 130, "interrupted; repeat the command to continue where it stopped\n"),
    ],
    ids=["user", "password", "name", "Ctrl-C"],
)
def test_one_line(capsys, error, status, said):
    assert status_of(fails(error)) == status
    assert capsys.readouterr() == ("", said)


def test_a_full_disk_is_the_users_and_any_other_fault_of_the_system_is_not(capsys):
    assert status_of(fails(OSError(errno.ENOSPC, "full", "runs/1/run.json"))) == 2
    assert "runs/1/run.json cannot be used" in capsys.readouterr().err
    with pytest.raises(OSError, match="no child"):
        status_of(fails(OSError(errno.ECHILD, "no child")))
    with pytest.raises(ZeroDivisionError):
        status_of(lambda: 1 // 0)


def test_its_own_status():
    assert [status_of(lambda given=given: given) for given in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["written at the end", "written line by line"])
@pytest.mark.parametrize(
    "program",
    [["results.py", "show", "docs/records/speed_threads.csv"], ["sweep.py", "sweeps/denetdm_table1.yaml", "--dry-run"],
     ["main.py", "help"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_nobody_reads_the_output(program, unbuffered):
    """As behind `| head` that has ended: no traceback, also where Python writes what is left when it ends."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        line = [sys.executable, *unbuffered, *program]
        done = subprocess.run(line, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "" and done.returncode == 1
