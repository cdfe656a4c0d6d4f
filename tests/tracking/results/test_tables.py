"""Tables in every format: what programs and readers see from them, and that no text can break out of its cell."""

import csv
import html
import io
import re

import pytest

from debias.tracking.results.tables import FORMATS, Table, write

TABLE = Table(
    "A & B", ["method", "last", "n"], [["erm", "50.00 ± 1.50", "3"], ["lff", "–", "1"]], ("method",), ["note_1"]
)
HOSTILE = '<script>alert(1)</script> | `x` [a](b) \\ % & $ # _ { } ~ ^ "quoted" \x1b[31m\nnext\r\u202e'


def test_markdown():
    assert write([TABLE], "markdown") == (
        "**A &amp; B**\n\n| method | last | n |\n| --- | ---: | ---: |\n| erm | 50.00 ± 1.50 | 3 |\n| lff | – | 1 |\n"
        "\n* note_1\n"
    )


def test_csv_gives_numbers_one_a_column():
    rows = list(csv.DictReader(io.StringIO(write([TABLE, Table("C", ["method", "oracle"], [["jtt", "7.00"]])], "csv"))))
    assert rows == [
        {"table": "A & B", "method": "erm", "last": "50.00", "last std": "1.50", "n": "3", "oracle": ""},
        {"table": "A & B", "method": "lff", "last": "", "last std": "", "n": "1", "oracle": ""},
        {"table": "C", "method": "jtt", "last": "", "last std": "", "n": "", "oracle": "7.00"},
    ]


def test_latex():
    text = write([TABLE], "latex")
    assert "\\begin{tabular}{lrr}\n\\toprule\nmethod & last & n \\\\\n" in text
    assert "erm & 50.00 $\\pm$ 1.50 & 3 \\\\" in text and "lff & -- & 1 \\\\" in text


def test_html():
    text = write([TABLE], "html")
    assert "<caption>A &amp; B</caption>" in text
    assert '<tr><td>erm</td><td class="number">50.00 ± 1.50</td><td class="number">3</td></tr>' in text


def test_terminal_has_a_line_for_each_row():
    lines = write([TABLE], "terminal").splitlines()
    assert re.fullmatch(r" *erm +50\.00 ± 1\.50 +3", lines[4]) and lines[-1] == "note_1"
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_hostile_text_stays_in_its_cell(fmt):
    text = write([Table(HOSTILE, ["a", HOSTILE], [[HOSTILE, "1"]], notes=[HOSTILE])], fmt)
    assert "\x1b" not in text and "\r" not in text and "\u202e" not in text
    if fmt == "csv":
        rows = list(csv.reader(io.StringIO(text)))
        assert [len(row) for row in rows] == [3, 3]
    elif fmt == "html":
        assert "<script" not in text and "alert(1)" in text
        assert html.unescape(text).count('"quoted"') == 4
    elif fmt == "markdown":
        assert "<script" not in text
        (row,) = (line for line in text.splitlines() if line.endswith("| 1 |"))
        assert len(re.findall(r"(?<!\\)\|", row)) == 3
        assert not re.search(r"(?<!\\)[`\[]", text)
    elif fmt == "latex":
        (row,) = (line for line in text.splitlines() if line.endswith("1 \\\\"))
        assert len(re.findall(r"(?<!\\)&", row)) == 1
        assert not re.search(r"(?<!\\)[%$#_]", row)


def test_without_titles():
    assert "A &" not in write([TABLE], "markdown", titles=False)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_narrow_terminal_breaks_no_name_of_a_row_and_no_figure(width):
    heads = ["method", *(f"{share} % {whose}" for share in (0.5, 1, 2, 5) for whose in ("theirs", "ours"))]
    rows = [[name, *["74.72 ± 0.99"] * 8] for name in ("group_dro", "denetdm_biaslabels")]
    lines = write([Table("t", heads, rows, text_columns=("method",))], "terminal", width=width).splitlines()
    words = [word for line in lines for word in line.split()]
    assert "group_dro" in words and "denetdm_biaslabels" in words
    assert words.count("74.72") == words.count("0.99") == 16
    assert all("± 0.99" in line for line in lines if "±" in line)
    assert max(map(len, lines)) <= max(width, 90)
