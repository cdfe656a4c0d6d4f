"""Methods side by side: the newest completed run of each, its gain, and what is said when one is missing."""

import json

import pytest

from tracking.compare import comparison, final_figures, main
from tracking.runs import RunRecord

DATASET = "colored_digits"


@pytest.fixture
def add(tmp_path):
    """add("erm", unbiased=50.0) writes a run into the store, numbered from 1."""

    def add(method, *, status="COMPLETED", command="train", dataset=DATASET, read_out="model", **figures):
        folder = tmp_path / str(1 + len(list(tmp_path.iterdir())))
        folder.mkdir()
        config = {"dataset": dataset, "method": method, "skew": 0.01, "seed": 3}
        summary = {f"{read_out}/{name}/last": value for name, value in figures.items()}
        (folder / "run.json").write_text(json.dumps({"command": command, "status": status}))
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "info.json").write_text(json.dumps({"summary": summary}))
        return folder

    return add


@pytest.fixture
def compare(tmp_path, capsys):
    def run(*methods, dataset=DATASET):
        status = main([*methods, "--dataset", dataset, "--store", str(tmp_path)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def row_of(out, method):
    (line,) = (line for line in out.splitlines() if method in line.replace("│", " ").split())
    return line


def test_the_gain_over_the_first_method(add, compare):
    add("erm", unbiased=50.04, conflicting=44.0, aligned=99.0)
    add("denetdm", read_out="target", unbiased=75.55, conflicting=72.0, aligned=97.5)
    status, out, err = compare("erm", "denetdm")
    assert (status, err) == (0, "")
    assert all(part in row_of(out, "erm") for part in ("50.0", "44.0", "99.0"))
    assert "(" not in row_of(out, "erm")
    gained = row_of(out, "denetdm")
    assert all(part in gained for part in ("75.5 (+25.5)", "72.0 (+28.0)", "97.5 (-1.5)")) or "75.6 (+25.5)" in gained
    assert "colored_digits, 1 % conflicting, seed 3" in out
    assert "worst" not in out


def test_the_newest_completed_training_counts(add, compare):
    add("erm", unbiased=10.0)
    add("erm", unbiased=20.0)
    add("erm", unbiased=30.0, status="FAILED")
    add("erm", unbiased=40.0, command="evaluate")
    add("erm", unbiased=50.0, dataset="colored_mnist")
    add("erm")
    status, out, _ = compare("erm")
    assert status == 0 and "20.0" in row_of(out, "erm")


def test_figures_that_one_method_lacks(add, compare):
    add("erm", average=60.0)
    add("lff", average=70.0, unbiased=65.0)
    _, out, _ = compare("erm", "lff")
    assert "–" in row_of(out, "erm")
    assert "70.0 (+10.0)" in row_of(out, "lff") and "65.0 (" not in row_of(out, "lff")


@pytest.mark.parametrize("there", [[], ["erm"], ["jtt"]])
def test_a_missing_run_ends_with_one_line(add, compare, tmp_path, there):
    for method in there:
        add(method, unbiased=1.0)
    status, out, err = compare("erm", "denetdm")
    missing = ", ".join(name for name in ("erm", "denetdm") if name not in there)
    assert (status, out) == (2, "")
    assert err == f"error: no completed run of {missing} on {DATASET} in {tmp_path}\n"


def test_a_damaged_run_is_not_compared(add, compare):
    add("erm", unbiased=50.0)
    (add("erm", unbiased=60.0) / "config.json").write_text("{}")
    status, out, _ = compare("erm")
    assert status == 0 and "50.0" in row_of(out, "erm")


@pytest.mark.parametrize(
    ("summary", "figures"),
    [
        ({"target/unbiased/last": 1.0, "model/unbiased/last": 2.0}, {"unbiased": 1.0}),
        ({"model/unbiased/last": 2.0, "shallow/unbiased/last": 3.0}, {"unbiased": 2.0}),
        ({"shallow/average/last": 3.0, "deep/average/last": 4.0}, {"average": 3.0}),
        ({"target/unbiased/oracle": 1.0}, {}),
    ],
)
def test_the_final_model_is_read_at_the_last_epoch(tmp_path, summary, figures):
    assert final_figures(RunRecord(tmp_path, "train", "COMPLETED", {"method": "x"}, summary)) == figures


def test_a_table_has_a_row_for_each_run(tmp_path):
    records = [RunRecord(tmp_path, "train", "COMPLETED", {"method": [name, "prune"]}, {}) for name in "abc"]
    table = comparison(records, "nothing trained")
    assert table.row_count == 3
    assert list(table.columns[0].cells) == ["a + prune", "b + prune", "c + prune"]
