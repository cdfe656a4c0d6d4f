"""Means over seeds: of what, and of what never."""

import pytest

from debias.tracking.results.published import beside
from debias.tracking.results.summary import Spread, final_figures, lines_of, tables_of, unfinished


def body(tables):
    (table,) = tables
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_mean_and_sample_deviation_over_seeds(record):
    rows = body(tables_of([record("erm", value, seed=seed) for seed, value in enumerate((50.0, 53.0, 56.0))]))
    assert rows == [{"method": "erm", "conflicting %": "1", "last": "53.00 ± 3.00", "n": "3"}]


def test_one_run_has_no_deviation(record):
    assert body(tables_of([record("erm", 50.0)]))[0]["last"] == "50.00"
    assert Spread.of([50.0]).std is None


def test_a_seed_counts_once_with_its_newest_run(record):
    rows = body(tables_of([record("erm", 10.0, seed=1), record("erm", 30.0, seed=1), record("erm", 50.0, seed=2)]))
    assert (rows[0]["last"], rows[0]["n"]) == ("40.00 ± 14.14", "2")


def test_methods_and_skews_have_rows_of_their_own(record):
    runs = [record("lff", 1.0), record("erm", 2.0, skew=0.005), record("erm", 3.0, skew=0.05)]
    assert [(row["method"], row["conflicting %"]) for row in body(tables_of(runs))] == [
        ("erm", "5"),
        ("erm", "0.5"),
        ("lff", "1"),
    ]


def test_other_settings_are_never_averaged_and_are_named(record):
    runs = [record("erm", 1.0, pretrain={"epochs": 10}), record("erm", 3.0, pretrain={"epochs": 100}, seed=2)]
    assert [(row["settings"], row["last"]) for row in body(tables_of(runs))] == [
        ("pretrain.epochs=10", "1.00"),
        ("pretrain.epochs=100", "3.00"),
    ]


def test_a_setting_that_older_runs_do_not_know_does_not_divide(record):
    runs = [record("erm", 1.0, pretrain={}), record("erm", 3.0, pretrain={"new": 5}, seed=2)]
    assert body(tables_of(runs))[0]["n"] == "2"
    runs.append(record("erm", 5.0, pretrain={"new": 6}, seed=3))
    assert [row["n"] for row in body(tables_of(runs))] == ["1", "1", "1"]


def test_where_a_run_worked_does_not_divide(record):
    runs = [record("erm", 1.0, store="a", device="cpu"), record("erm", 3.0, store="b", device="cuda", seed=2)]
    assert body(tables_of(runs))[0]["n"] == "2"


def test_settings_of_other_data_sets_neither_divide_nor_stand_in_the_title(record):
    others = {"colour_std": 0.1, "palette": "jitter", "bad_files": "stop", "output": None, "compile": "auto"}
    runs = [
        record("erm", 1.0, dataset="colored_mnist", severity=4),
        record("erm", 3.0, dataset="colored_mnist", severity=4, seed=2, **others),
    ]
    (table,) = tables_of(runs)
    assert body([table])[0]["n"] == "2"
    assert table.title == "colored_mnist (severity 4): unbiased test accuracy, %"


def test_a_skew_said_as_rho_is_the_same_skew(record):
    runs = [record("end", 1.0, skew=0.003, rho=0.997), record("end", 3.0, skew=0.003, rho=None, seed=2)]
    assert body(tables_of(runs))[0]["n"] == "2"


@pytest.mark.parametrize(
    "other", [{"severity": 2}, {"dataset": "colored_digits"}, {"placement": "last"}, {"limit": 600}, {"newest": "x"}]
)
def test_data_made_otherwise_has_a_table_of_its_own(record, other):
    base = {"placement": "blocks", "limit": None}
    tables = tables_of([record("erm", 1.0, **base), record("erm", 3.0, seed=2, **{**base, **other})])
    assert [table.rows[0][-2] for table in tables] == ["1.00", "3.00"]
    assert tables[0].title != tables[1].title


def test_selections_never_share_a_column(record):
    runs = [
        record("erm", summary={"model/unbiased/last": 1.0, "model/unbiased/oracle": 2.0}),
        record("denetdm", summary={"target/unbiased/last_of_oracle_teacher": 3.0, "target/unbiased/oracle": 4.0}),
    ]
    rows = body(tables_of(runs))
    assert (rows[0]["last"], rows[0]["oracle"], rows[0]["last of oracle teacher"]) == ("–", "4.00", "3.00")
    assert (rows[1]["last"], rows[1]["oracle"], rows[1]["last of oracle teacher"]) == ("1.00", "2.00", "–")


@pytest.mark.parametrize(
    ("also", "state"),
    [
        ({"status": "FAILED"}, "failed"),
        ({"status": "INTERRUPTED"}, "interrupted"),
        ({"status": "KILLED"}, "killed"),
        ({"status": "RUNNING"}, "running"),
        ({"command": "branches"}, "partial: branches only"),
        ({"summary": {}}, "without figures"),
    ],
    ids=str,
)
def test_what_is_not_finished_is_listed_apart(record, also, state):
    runs = [record("erm", 10.0, seed=1), record("erm", 90.0, seed=2, **also)]
    assert body(tables_of(runs))[0]["last"] == "10.00"
    apart = unfinished(runs)
    assert apart is not None and [row[4] for row in apart.rows] == [state]


def test_nothing_is_listed_apart_when_all_finished(record):
    assert unfinished([record("erm", 1.0)]) is None


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("unbiased", {"last": 1.0, "oracle": 2.0}),
        ("unbiased@grey", {"last": 5.0}),
        ("shallow/unbiased", {"last": 3.0}),
        ("worst", {}),
    ],
)
def test_final_figures(record, figure, expected):
    names = ("target/unbiased/last", "target/unbiased/oracle", "shallow/unbiased/last", "model/unbiased/last")
    summary = dict(zip(names, (1.0, 2.0, 3.0, 4.0), strict=True)) | {"target@grey/unbiased/last": 5.0}
    assert final_figures(record(summary=summary), figure) == expected


def test_the_published_figure_stands_beside_equal_data_only(record):
    network = {"network": "mlp4", "batch_size": 256, "second_division": True}
    ours = {"placement": "blocks", "severity": 4, "limit": None, "pretrain": network}
    (line,) = lines_of([record("erm", 51.0, **ours)])
    assert beside(line, "unbiased") == {"published, oracle": "50.34 ± 0.16 [DeNetDM table 1]"}
    assert beside(line, "conflicting") == {}
    for other in ({"severity": 1}, {"placement": "last"}, {"limit": 600}, {"reverse": True}, {"skew": 0.03}):
        (line,) = lines_of([record("erm", 51.0, **{**ours, **other})])
        assert beside(line, "unbiased") == {}


def test_other_rules_of_selection_have_a_column_of_their_own(record):
    (line,) = lines_of([record("end", 80.0, dataset="biased_mnist", skew=0.003, rho=0.997, validation="overlapping")])
    cells = beside(line, "unbiased")
    assert set(cells) == {"published, valid overlapping", "published, selection not said"}
    assert cells["published, valid overlapping"].startswith("83.70 ± 1.03")


def brought(record, value: float, content: str, folder: str = "photos", conflicting: float | None = None, **also):
    """A run on images that a user brought, which have no figure by groups unless they have bias labels."""
    about = {"content": content, "folder": folder, "conflicting": conflicting}
    name = "average" if conflicting is None else "unbiased"
    return record(dataset="own_images", skew=0.05, summary={f"model/{name}/last": value}, info={"data": about}, **also)


def test_runs_on_other_images_are_no_seeds_of_one(record):
    """Whatever their folders are called; those on the same images are, wherever these lie."""
    runs = [
        brought(record, 50.0, "aaaaaaaaaa", "one"),
        brought(record, 80.0, "bbbbbbbbbb", "two", seed=2),
        brought(record, 60.0, "aaaaaaaaaa", "one", seed=2),
    ]
    first, second = tables_of(runs)
    assert "one/" in first.title and "two/" in second.title
    assert [row["n"] for row in body([first])] == ["2"] and [row["n"] for row in body([second])] == ["1"]
    same_name = tables_of([brought(record, 50.0, "aaaaaaaaaa"), brought(record, 80.0, "bbbbbbbbbb", seed=2)])
    assert "images aaaaaaaa" in same_name[0].title and "images bbbbbbbb" in same_name[1].title


def test_images_without_bias_labels_have_an_accuracy_and_no_share(record):
    (table,) = tables_of([brought(record, 50.0, "a"), brought(record, 60.0, "a", seed=2)])
    assert "average test accuracy" in table.title
    assert body([table])[0]["conflicting %"] == "–" and body([table])[0]["last"] == "55.00 ± 7.07"


def test_the_share_of_labelled_images_is_the_measured_one(record):
    (table,) = tables_of([brought(record, 50.0, "a", conflicting=0.0698)])
    assert "unbiased test accuracy" in table.title and body([table])[0]["conflicting %"] == "6.98"


def test_older_records_have_the_share_that_was_chosen_but_where_nothing_chooses_it(record):
    assert body(tables_of([record("erm", 50.0, skew=0.02)]))[0]["conflicting %"] == "2"
    assert body(tables_of([record("erm", 50.0, skew=0.05, dataset="bar")]))[0]["conflicting %"] == "–"


def test_what_was_trained_on_changed_images_is_marked(record):
    """By a column that is there where any run of a table is such a run; seeds may have chosen different operators."""
    runs = [record("erm", 50.0)]
    assert "augmentation" not in tables_of(runs)[0].columns
    runs += [record("depth_transfer", 97.0, info={"augmentation": "channel_stats"})]
    runs += [record("depth_transfer", 96.0, info={"augmentation": "histogram"}, seed=2)]
    marks = {row["method"]: (row["augmentation"], row["n"]) for row in body(tables_of(runs))}
    assert marks == {"erm": ("–", "1"), "depth_transfer": ("channel_stats, histogram", "2")}
