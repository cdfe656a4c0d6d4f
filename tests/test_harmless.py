"""Texts from outside where they are shown and kept."""

import csv
import io

import pytest

from debias.harmless import cell, plain, uncell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("café 猫 ①", "café 猫 ①"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x07\x00\x7f\x9b", "\\x07\\x00\\x7f\\x9b"),
        ("caf\udce9", "caf\\udce9"),
        ("abc\u202etxt", "abc\\u202etxt"),
    ],
)
def test_plain(text, shown):
    assert plain(text) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "@SUM(A1)", "-x", "=cmd|' /C calc'!A0", "-1-1"])
def test_no_cell_is_a_formula_and_all_come_back(text):
    assert cell(text)[0] == "'" and uncell(cell(text)) == text


@pytest.mark.parametrize("text", ["cat", "-0.5", "+3", "1e-3", "'quoted", "a=b", "", "img/=a.png"])
def test_other_cells_stay(text):
    assert cell(text) == text and uncell(text) == text


def test_a_cell_is_one_line_of_a_table():
    out = io.StringIO()
    csv.writer(out).writerow([cell("a\nb"), cell("\tb"), cell("\r=x")])
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    assert row == ["a\\nb", "\\tb", "\\r=x"]
