"""results.py as the user calls it, and the documents whose tables it makes."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from debias import results
from debias.commands.results.files import DOCUMENTS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def call(tmp_path, capsys):
    def call(*words: str, store: bool = True) -> tuple[int, str, str]:
        store = store and words[:1] not in (("show",), ("docs",))  # which read no runs
        status = results.main([*words, *(["--store", str(tmp_path)] if store else [])])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


def test_the_documents_are_in_step_with_their_records(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert results.main(["docs", "--check"]) == 0, capsys.readouterr().out


def test_the_table_of_the_readme_is_in_step_with_its_records():
    assert results.main(["docs", "README.md", "--check"]) == 0


def test_no_table_of_the_documents_is_typed():
    for document in DOCUMENTS:
        inside = False
        for number, line in enumerate((ROOT / document).read_text(encoding="utf-8").splitlines(), start=1):
            if line.startswith("<!-- "):
                inside = line != "<!-- end -->"
            assert inside or not line.startswith("|"), f"{document}, line {number}: a table without a command above it"


def test_a_document_is_rewritten(add_run, call, tmp_path):
    add_run("erm", unbiased=50.0)
    record, document = tmp_path / "a.csv", tmp_path / "d.md"
    assert call("record", str(record))[0] == 0
    document.write_text(f"before\n\n<!-- python results.py --records {record} -->\nold\n<!-- end -->\n\nafter\n")
    assert call("docs", str(document), "--check", store=False) == (
        1,
        f"{document}: out of date; run python results.py docs\n",
        "",
    )
    assert "old" in document.read_text()
    assert call("docs", str(document), store=False)[0] == 0
    text = document.read_text()
    assert "| erm | 1 | 50.00 | 1 |" in text and "old" not in text
    assert text.startswith("before\n\n<!-- python") and text.endswith("<!-- end -->\n\nafter\n")
    assert call("docs", str(document), "--check", store=False)[0] == 0


@pytest.mark.parametrize("text", ["<!-- python results.py -->\n", "<!-- python results.py -->\n" * 2 + "<!-- end -->"])
def test_a_mark_without_end_is_refused(call, tmp_path, text):
    document = tmp_path / "d.md"
    document.write_text(text)
    status, out, err = call("docs", str(document), store=False)
    assert (status, out) == (2, "") and "has no <!-- end -->" in err
    assert document.read_text() == text


def test_the_table(add_run, call):
    add_run("erm", unbiased=50.0)
    add_run("erm", unbiased=52.0, config={"seed": 4})
    add_run("lff", unbiased=60.0, status="FAILED")
    status, out, err = call("--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, err) == (0, "")
    assert (rows[0]["method"], rows[0]["last"], rows[0]["last std"], rows[0]["n"]) == ("erm", "51.00", "1.41", "2")
    assert rows[1]["state"] == "failed" and len(rows) == 2


def test_compare(add_run, call, tmp_path):
    add_run("erm", unbiased=50.0)
    add_run("denetdm", read_out="target", unbiased=75.5)
    status, out, _ = call("compare", "erm", "denetdm", "dataset=colored_digits")
    assert status == 0 and "75.5 (+25.5)" in out
    assert out.splitlines()[-2:] == [f"erm: {tmp_path / '1'}", f"denetdm: {tmp_path / '2'}"]


def test_show(call, tmp_path):
    path = tmp_path / "speed.csv"
    path.write_text("what,x\nloop,3.5\n")
    status, out, _ = call("show", str(path), "--format", "markdown", store=False)
    assert status == 0 and out == "**speed**\n\n| what | x |\n| --- | ---: |\n| loop | 3.5 |\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no runs in"),
        (["method=lff"], "no runs in"),
        (["lisst"], "did you mean list?"),
        (["compare"], "name the methods"),
        (["compare", "erm", "erm"], "each once"),
        (["compare", "erm"], "no completed run of erm"),
        (["record"], "name the CSV file"),
        (["record", "x.csv"], "no finished run"),
        (["show", "nowhere.csv"], "nowhere.csv"),
        (["docs", "nowhere.md"], "nowhere.md: cannot be read"),
        (["paper", "denetdm-tabel1"], "did you mean denetdm-table"),
        (["--paper", "all"], "unrecognized arguments: --paper"),
        (["list", "--check"], "unrecognized arguments: --check (python results.py list --help"),
        (["--no-title", "list"], "the command comes first"),
        (["clean", "--format", "csv"], "unrecognized arguments"),
        (["table", "--format", "pdf"], "invalid choice"),
        (["show"], "required: FILE.csv"),
        (["--records", "nowhere.csv"], "nowhere.csv: cannot be read"),
    ],
    ids=str,
)
def test_what_cannot_be_is_answered_in_one_line(call, words, says):
    status, out, err = call(*words)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


@pytest.mark.parametrize("name", results.PROGRAM.commands)
def test_each_command_has_a_help_of_its_own(name, capsys, monkeypatch):
    """Which fits a terminal of 80 columns, but for its examples, and does not name options of others."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        results.main([name, "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and printed.startswith(f"usage: python results.py {name} ")
    assert ("--format" in printed) == (results.PROGRAM.commands[name].tables is not None)
    assert ("--columns" in printed) == (name == "list") and ("--yes" in printed) == (name == "clean")


def test_the_help_lists_all_commands(call):
    status, out, err = call("--help", store=False)
    assert (status, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert all(any(line[:1] == [name] for line in lines) for name in results.PROGRAM.commands)


def test_published_tables_are_listed(call):
    status, out, _ = call("paper", "--format", "csv")
    names = [row["name"] for row in csv.DictReader(io.StringIO(out))]
    assert status == 0 and "denetdm-table1-cmnist" in names


def test_a_document_may_only_name_commands_that_print_tables(call, tmp_path):
    document = tmp_path / "d.md"
    document.write_text("<!-- python results.py clean -->\n<!-- end -->\n")
    status, _, err = call("docs", str(document), store=False)
    assert status == 2 and "--format" in err


def test_two_hundred_runs_are_listed_without_what_training_needs(add_run, tmp_path):
    """What takes time is to import torch or Sacred; the table of all runs must not need them."""
    for seed in range(200):
        add_run("erm", unbiased=float(seed), config={"seed": seed})
    code = (
        "import sys, results\n"
        f"assert results.main(['--store', {str(tmp_path)!r}]) == 0\n"
        "assert not {'torch', 'sacred', 'matplotlib', 'numpy'} & sys.modules.keys()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "200" in done.stdout and "99.50 ± 57.88" in done.stdout
