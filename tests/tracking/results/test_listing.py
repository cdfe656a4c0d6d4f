"""Runs one by one, and methods side by side: the newest finished run of each, its gain, what is said when one lacks."""

import pytest

from debias.errors import UserError
from debias.tracking.results.listing import comparison, last_figures, newest_of_each, run_table


def test_columns_of_choice(record):
    runs = [record("erm", 12.345, seed=1), record("denetdm", 0.0, read_out="target", seed=2)]
    table = run_table(runs, ["skew", "target/unbiased/last|model/unbiased/last:final", "model/unbiased/last"])
    assert list(table.columns) == ["skew", "final", "model/unbiased/last"]
    assert list(table.rows) == [["0.01", "12.35", "12.35"], ["0.01", "0.00", "–"]]


def test_an_unknown_column_is_named(record):
    with pytest.raises(UserError, match="no run has sed; did you mean seed"):
        run_table([record("erm", 1.0)], ["sed"])


def test_the_gain_over_the_first_method(record):
    figures = {"unbiased": 50.04, "conflicting": 44.0, "aligned": 99.0}
    gained = {"unbiased": 75.5, "conflicting": 72.0, "aligned": 97.5}
    runs = [
        record("erm", summary={f"model/{name}/last": value for name, value in figures.items()}),
        record("denetdm", summary={f"target/{name}/last": value for name, value in gained.items()}),
    ]
    table = comparison(runs, "title")
    assert list(table.columns) == ["method", "unbiased", "aligned", "conflicting"]
    assert list(table.rows) == [
        ["erm", "50.0", "99.0", "44.0"],
        ["denetdm", "75.5 (+25.5)", "97.5 (-1.5)", "72.0 (+28.0)"],
    ]


def test_figures_that_one_method_lacks(record):
    runs = [
        record("erm", summary={"model/average/last": 60.0}),
        record("lff", summary={"model/average/last": 70.0, "model/unbiased/last": 65.0}),
    ]
    assert list(comparison(runs, "").rows) == [["erm", "–", "60.0"], ["lff", "65.0", "70.0 (+10.0)"]]


def test_the_newest_finished_training_counts(record):
    runs = [
        record("erm", 10.0),
        record("erm", 20.0),
        record("erm", 30.0, status="FAILED"),
        record("erm", 40.0, command="evaluate"),
        record("erm", summary={}),
    ]
    assert newest_of_each(runs, ["erm"]) == [runs[1]]


def test_runs_are_compared_on_equal_data_and_seeds_only(record):
    runs = [record("erm", 10.0), record("lff", 20.0), record("erm", 30.0, seed=2), record("lff", 40.0, skew=0.05)]
    assert newest_of_each(runs, ["erm", "lff"]) == runs[:2]
    with pytest.raises(UserError, match="no completed runs of erm, lff on equal data"):
        newest_of_each(runs[2:], ["erm", "lff"])
    with pytest.raises(UserError, match="no completed run of jtt among these 4 runs"):
        newest_of_each(runs, ["erm", "jtt"])


@pytest.mark.parametrize(
    ("summary", "figures"),
    [
        ({"target/unbiased/last": 1.0, "model/unbiased/last": 2.0}, {"unbiased": 1.0}),
        ({"model/unbiased/last": 2.0, "shallow/unbiased/last": 3.0}, {"unbiased": 2.0}),
        ({"shallow/average/last": 3.0, "deep/average/last": 4.0}, {"average": 3.0}),
        ({"target/unbiased/oracle": 1.0}, {}),
        ({"target/unbiased/last_of_oracle_teacher": 5.0}, {"unbiased": 5.0}),
    ],
)
def test_the_final_model_is_read_at_the_last_epoch(record, summary, figures):
    assert last_figures(record(summary=summary)) == figures


def test_an_oracle_teacher_is_said(record):
    run = record("denetdm", summary={"target/unbiased/last_of_oracle_teacher": 5.0})
    assert comparison([run], "").rows[0][0] == "denetdm (oracle teacher)"


def test_runs_on_other_images_are_not_compared(record):
    def run(method, content):
        return record(method, 50.0, dataset="own_images", info={"data": {"content": content, "conflicting": None}})

    assert len(newest_of_each([run("erm", "a"), run("lff", "a")], ["erm", "lff"])) == 2
    with pytest.raises(UserError, match="no completed runs of erm, lff on equal data"):
        newest_of_each([run("erm", "a"), run("lff", "b")], ["erm", "lff"])
