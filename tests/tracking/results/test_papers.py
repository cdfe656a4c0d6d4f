"""Papers' tables: every published figure in its place, ours beside it only when made so, commands that run."""

import shlex

import pytest

from debias.errors import UserError
from debias.stages.recipes import RECIPES
from debias.tracking.results.papers import paper_table
from debias.tracking.results.published import find_papers, papers

ALL = list(papers())


def cells(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.mark.parametrize("key", ALL)
def test_a_paper_is_whole(key, configured):
    paper = papers()[key]
    assert paper.source and paper.title and paper.rows and paper.columns
    for row, spreads in paper.rows.items():
        assert len(spreads) == len(paper.columns), row
        assert all(spread is None or 0 <= spread.mean <= 100 for spread in spreads)
    assert set(paper.settings) <= set(paper.rows)


@pytest.mark.parametrize("key", ALL)
def test_without_runs_each_cell_that_can_be_filled_has_a_command_that_resolves(key, configured):
    paper = papers()[key]
    table = paper_table(paper, [])
    assert len(table.rows) == len(paper.rows)
    commands = [note for note in table.notes if note.startswith("[")]
    used = {cell for row in table.rows for cell in row[2::2]} - {"–"}
    assert used == {note.split(" ")[0] for note in commands}
    for command in commands:
        words = shlex.split(command.partition(" do ")[2].rstrip().removesuffix("; done"))
        assert words[:3] == ["python", "main.py", "with"]
        settings = configured(*(word.replace("$seed", "1") for word in words[3:]))
        assert settings["method"] in RECIPES
    shown = paper_table(paper, [], inline=True)
    assert not any(cell.startswith("[") for row in shown.rows for cell in row)


def test_known_figures():
    table = cells(paper_table(papers()["denetdm-table1-cmnist"], []))
    assert table["denetdm"]["1 %"] == "85.22 ± 0.76" and table["group_dro"]["5 %"] == "84.40"
    assert cells(paper_table(papers()["lntl"], []))["lntl"]["var 0.020"] == "81.85"


def test_only_rows_of_the_methods_that_are_asked_for():
    table = paper_table(papers()["denetdm-table1-cmnist"], [], methods=["denetdm", "jtt"])
    assert [row[0] for row in table.rows] == ["jtt", "denetdm"]
    assert {note.split("method=")[1].split()[0] for note in table.notes if "method=" in note} == {"jtt", "denetdm"}


BASE = {"placement": "blocks", "severity": 4, "limit": None}


def test_ours_stands_beside_theirs(record):
    runs = [
        record("erm", summary={"model/unbiased/oracle": value, "model/unbiased/last": 1.0}, seed=seed, **BASE)
        for seed, value in enumerate((50.0, 52.0))
    ]
    runs.append(record("erm", summary={"model/unbiased/oracle": 99.0}, seed=3, status="FAILED", **BASE))
    runs.append(record("erm", summary={"model/unbiased/oracle": 99.0}, seed=4, **{**BASE, "placement": "last"}))
    runs.append(record("erm", summary={"model/unbiased/oracle": 99.0}, seed=5, **{**BASE, "limit": 600}))
    table = paper_table(papers()["denetdm-table1-cmnist"], runs)
    assert cells(table)["erm"]["1 % ours"] == "51.00 ± 1.41 (2)"
    assert cells(table)["erm"]["5 % ours"].startswith("[")
    assert any("best epoch on the test set, n = 5" in note for note in table.notes)
    last = cells(paper_table(papers()["denetdm-table1-cmnist"], runs, "last"))
    assert last["erm"]["1 % ours"] == "1.00 ± 0.00 (2)"


def test_a_row_asks_for_its_protocol(record):
    def run(teacher):
        return record("denetdm", summary={"target/unbiased/oracle": 80.0}, distill={"teacher": teacher}, **BASE)

    paper = papers()["denetdm-table1-cmnist"]
    assert cells(paper_table(paper, [run("mean")]))["denetdm"]["1 % ours"].startswith("[")
    assert cells(paper_table(paper, [run("mean"), run("oracle")]))["denetdm"]["1 % ours"] == "80.00 (1)"


def test_unusual_settings_are_named(record):
    summary = {"model/unbiased/oracle": 50.0}
    short = record("erm", summary=summary, pretrain={"epochs": 3}, **BASE)
    table = paper_table(papers()["denetdm-table1-cmnist"], [short])
    assert cells(table)["erm"]["1 % ours"] == "50.00 (1)*"
    assert "* erm at 1 % was run with pretrain.epochs=3" in table.notes
    whole = record("erm", summary=summary, pretrain={"epochs": 100}, seed=2, **BASE)
    table = paper_table(papers()["denetdm-table1-cmnist"], [short, whole])
    assert cells(table)["erm"]["1 % ours"] == "50.00 (1)"


def test_a_row_of_another_read_out(record):
    summary = {"target/unbiased/last": 70.0, "shallow/unbiased/last": 60.0}
    run = record("denetdm", summary=summary, distill={"poe_weight": 1.0, "dist_weight": 1.0}, **BASE)
    table = cells(paper_table(papers()["denetdm-table6"], [run]))
    assert table["denetdm"]["accuracy ours"].startswith("70.00 (1)")
    assert table["branches only"]["accuracy ours"].startswith("60.00 (1)")


def test_rebias_completes_the_table_of_biased_digits(record):
    """Beside its published figures at every skew, those of its own runs, of the epoch that the table's rule selects."""
    summary = {"model/unbiased/valid_overlapping": 60.0, "model/unbiased/last": 50.0, "biased/unbiased/last": 10.0}
    config = {"dataset": "biased_mnist", "validation": "overlapping"}
    runs = [record("rebias", summary=summary, skew=skew, rho=None, **config) for skew in (0.001, 0.003, 0.005)]
    row = cells(paper_table(papers()["end-table1"], runs))["rebias"]
    names = ("rho .999", "rho .997", "rho .995", "rho .990")
    assert [row[name] for name in names] == ["22.70", "64.20", "76.00", "88.10"]
    assert [row[f"{name} ours"] for name in names[:3]] == ["60.00 (1)"] * 3
    (command,) = (note for note in paper_table(papers()["end-table1"], runs).notes if "method=rebias" in note)
    assert row["rho .990 ours"] == command.split()[0] and "skew=0.01 validation=overlapping" in command


def test_names():
    assert [paper.key for paper in find_papers("denetdm-table1")] == [
        "denetdm-table1-cmnist",
        "denetdm-table1-ccifar10",
    ]
    assert [paper.key for paper in find_papers("lntl")] == ["lntl"]
    assert len(find_papers("all")) == len(ALL)
    with pytest.raises(UserError, match="did you mean frontier"):
        find_papers("fronteir")
