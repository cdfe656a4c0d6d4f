"""Papers' tables: every published figure in its place, ours beside it only when made so, commands that run."""

import shlex

import pytest

from debias.errors import UserError
from debias.stages.recipes import RECIPES
from debias.sweeps.plan import words_plan
from debias.tracking.results.cells import cells_table, read_reasons
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
# The published baselines' network, as the rows of DeNetDM's table ask for it.
BASELINE = {"network": "mlp4", "batch_size": 256, "second_division": True}


def test_ours_stands_beside_theirs(record):
    runs = [
        record(
            "erm",
            pretrain=BASELINE,
            summary={"model/unbiased/oracle": value, "model/unbiased/last": 1.0},
            seed=seed,
            **BASE,
        )
        for seed, value in enumerate((50.0, 52.0))
    ]
    runs.append(
        record("erm", pretrain=BASELINE, summary={"model/unbiased/oracle": 99.0}, seed=3, status="FAILED", **BASE)
    )
    runs.append(
        record(
            "erm", pretrain=BASELINE, summary={"model/unbiased/oracle": 99.0}, seed=4, **{**BASE, "placement": "last"}
        )
    )
    runs.append(
        record("erm", pretrain=BASELINE, summary={"model/unbiased/oracle": 99.0}, seed=5, **{**BASE, "limit": 600})
    )
    table = paper_table(papers()["denetdm-table1-cmnist"], runs)
    assert cells(table)["erm"]["1 % ours"] == "51.00 ± 1.41 (2), agrees"
    assert cells(table)["erm"]["5 % ours"].startswith("[")
    assert any("best epoch on the test set, n = 5" in note for note in table.notes)
    last = cells(paper_table(papers()["denetdm-table1-cmnist"], runs, "last"))
    assert last["erm"]["1 % ours"] == "1.00 ± 0.00 (2), below"


def test_a_row_asks_for_its_protocol(record):
    def run(teacher):
        return record("denetdm", summary={"target/unbiased/oracle": 80.0}, distill={"teacher": teacher}, **BASE)

    paper = papers()["denetdm-table1-cmnist"]
    assert cells(paper_table(paper, [run("mean")]))["denetdm"]["1 % ours"].startswith("[")
    assert cells(paper_table(paper, [run("mean"), run("oracle")]))["denetdm"]["1 % ours"] == "80.00 (1), below"


def test_unusual_settings_are_named(record):
    summary = {"model/unbiased/oracle": 50.0}
    short = record("erm", summary=summary, pretrain={**BASELINE, "epochs": 3}, **BASE)
    table = paper_table(papers()["denetdm-table1-cmnist"], [short])
    assert cells(table)["erm"]["1 % ours"] == "50.00 (1)*, agrees"
    assert "* erm at 1 % was run with pretrain.epochs=3" in table.notes
    whole = record("erm", summary=summary, pretrain={**BASELINE, "epochs": 100}, seed=2, **BASE)
    table = paper_table(papers()["denetdm-table1-cmnist"], [short, whole])
    assert cells(table)["erm"]["1 % ours"] == "50.00 (1), agrees"


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
    assert [row[f"{name} ours"] for name in names[:3]] == [
        f"60.00 (1), {verdict}" for verdict in ("above", "below", "below")
    ]
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


def test_runs_on_the_authors_files_stand_in_the_papers_columns_and_say_so(record):
    runs = [
        record(
            "lc",
            lc=BASELINE,
            summary={"model/unbiased/oracle": value},
            seed=seed,
            dataset="lff_mnist",
            severity=4,
            limit=None,
        )
        for seed, value in enumerate((78.0, 79.0))
    ]
    table = paper_table(papers()["denetdm-table1-cmnist"], runs)
    row = next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == "lc")
    assert row["1 % ours"].startswith("78.50 ± 0.71 (2)*, agrees")
    assert any("lc at 1 % was run with dataset=lff_mnist" in note for note in table.notes)
    # DisEnt's archive is other images: its runs never do.
    other = [
        record(
            "lc", lc=BASELINE, summary={"model/unbiased/oracle": 80.0}, dataset="disent_mnist", severity=4, limit=None
        )
    ]
    table = paper_table(papers()["denetdm-table1-cmnist"], other)
    assert not any("80.00" in cell for row in table.rows for cell in row)


def test_each_published_figure_has_a_row_with_its_verdict(record):
    """Colored MNIST at 1 %: erm 50.34 ± 0.16, lff 74.01 ± 2.21, so 51.50 and 76.22 are the last ones that agree."""
    values = {"lff": 70.0, "lc": 79.0}
    runs = [record("erm", summary={"model/unbiased/oracle": 52.0}, pretrain=BASELINE, **BASE)]
    runs += [
        record(method, summary={"model/unbiased/oracle": value}, **{method: BASELINE}, **BASE)
        for method, value in values.items()
    ]
    paper = papers()["denetdm-table1-cmnist"]
    table = cells_table(paper, runs, None, [])
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert len(rows) == 28 and all(row["published"] != "–" for row in rows)
    found = {row["method"]: row for row in rows if row["column"] == "1 %"}
    assert {name: (row["difference"], row["verdict"]) for name, row in found.items()} == {
        "group_dro": ("–", "not run"), "erm": ("+1.66", "above"), "jtt": ("–", "not run"),
        "lff": ("-4.01", "below"), "dfa": ("–", "not run"), "lc": ("+0.59", "agrees"), "denetdm": ("–", "not run"),
    }  # fmt: skip
    assert table.notes[0] == "28 cells: 1 agrees, 1 above, 1 below, 25 not run, 0 not built in."


@pytest.mark.parametrize("key", ALL)
def test_sweeps_fill_exactly_the_cells_that_were_not_run(key, experiment, configured):
    """What they would run is what the cells ask for."""
    paper = papers()[key]
    table = cells_table(paper, [], None, [])
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    commands = [note.partition("] python sweep.py with ")[2] for note in table.notes if note.startswith("[")]
    columns = {column.name: column for column in paper.columns}
    for number, command in enumerate(commands, start=1):
        mine = [row for row in rows if row["why, or command"] == f"[{number}]"]
        assert mine, command
        trials = [configured(*trial.words) for trial in words_plan(experiment, shlex.split(command)).trials]
        wanted = {tuple((columns[row["column"]].config or {}).items()) for row in mine}
        assert len(trials) == len(wanted) * (paper.n_seeds or 3)
        for config in wanted:
            assert any(all(trial[name] == value for name, value in config) for trial in trials)


def test_reasons_stand_beside_the_cells_they_are_about(record, tmp_path):
    path = tmp_path / "reasons.csv"
    path.write_text(
        "table,row,column,why\n"
        "denetdm-table1-cmnist,lc,1 %,below: too short\n"
        "denetdm-table1-cmnist,lc,,another ramp\n"
        "denetdm-table6,,,elsewhere\n"
    )
    runs = [record("lc", lc=BASELINE, summary={"model/unbiased/oracle": 79.0}, **BASE)]
    table = cells_table(papers()["denetdm-table1-cmnist"], runs, None, read_reasons(path))
    said = {(row[0], row[1]): row[-1] for row in table.rows}
    assert said["lc", "1 %"].startswith("another ramp") and said["lc", "2 %"].startswith("another ramp; [")
    assert said["erm", "1 %"].startswith("[")
    runs = [record("lc", lc=BASELINE, summary={"model/unbiased/oracle": 70.0}, **BASE)]
    table = cells_table(papers()["denetdm-table1-cmnist"], runs, None, read_reasons(path))
    assert {(row[0], row[1]): row[-1] for row in table.rows}["lc", "1 %"].startswith("too short")
    path.write_text("table,why\nx,y\n")
    with pytest.raises(UserError, match="must have the columns table, row, column, why"):
        read_reasons(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_reasons(tmp_path / "missing.csv")
