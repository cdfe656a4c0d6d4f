"""Run folders read as records; folders that are none, or are damaged, are skipped."""

import json

import pytest

from debias import results
from debias.tracking.folders import read_runs

CONFIG = {"dataset": "colored_digits", "method": "erm", "skew": 0.01, "seed": 1}


def write_run(store, number, *, config=CONFIG, status="COMPLETED", command="train", summary=None):
    folder = store / str(number)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": command, "status": status}))
    (folder / "config.json").write_text(json.dumps(config))
    if summary is not None:
        (folder / "info.json").write_text(json.dumps({"summary": summary}))
    return folder


def test_runs_are_read_oldest_first(tmp_path):
    for number in (10, 9, 2):
        write_run(tmp_path, number, summary={"model/unbiased/last": float(number)})
    records = list(read_runs(tmp_path))
    assert [record.folder.name for record in records] == ["2", "9", "10"]
    assert records[0].summary == {"model/unbiased/last": 2.0}
    assert (records[0].command, records[0].status, records[0].config) == ("train", "COMPLETED", CONFIG)


def test_a_run_that_has_not_finished_has_no_figures_yet(tmp_path):
    write_run(tmp_path, 1, status="RUNNING")
    (record,) = read_runs(tmp_path)
    assert record.status == "RUNNING" and record.summary == {}


@pytest.mark.parametrize(("method", "name"), [("dcwp", "dcwp"), (["branches", "mine_depth"], "branches + mine_depth")])
def test_the_name_of_a_method(tmp_path, method, name):
    write_run(tmp_path, 1, config={**CONFIG, "method": method})
    assert next(read_runs(tmp_path)).method == name


def test_an_empty_or_missing_store(tmp_path):
    assert list(read_runs(tmp_path)) == []
    assert list(read_runs(tmp_path / "nothing")) == []


@pytest.mark.parametrize("name", ["run.json", "config.json", "info.json"])
@pytest.mark.parametrize("content", ["", "{", '{"status": ', "[]", "null", "3", '"text"', "{}", "\udcff"])
def test_a_damaged_folder_hides_no_other_run(tmp_path, name, content):
    write_run(tmp_path, 1, summary={"a": 1.0})
    damaged = write_run(tmp_path, 2, summary={"b": 1.0})
    write_run(tmp_path, 3, summary={"c": 1.0})
    (damaged / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    records = {record.folder.name: record for record in read_runs(tmp_path)}
    # An info file without a summary is that of a run that has just begun.
    assert set(records) == ({"1", "2", "3"} if (name, content) == ("info.json", "{}") else {"1", "3"})
    assert all(record.method == "erm" for record in records.values())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [("config.json", "dataset", value) for value in (None, 3, [], {}, ["x"])]
    + [("config.json", "method", value) for value in (None, 3, [], {}, [1])]
    + [("config.json", "seed", value) for value in ([], {})]
    + [("config.json", "skew", value) for value in ([[1]], [{}])]
    + [("info.json", "final", value) for value in (3, "x", [1], {"stage": "x"}, {"read_out": None})]
    + [("info.json", "data", value) for value in (None, 3, "x", [], {"conflicting": "x"}, {"content": []})]
    + [("info.json", "settings", value) for value in (None, 3, [], {"data": None}, {"data": "x"}, {"told": [[]]})]
    + [("info.json", "stages", value) for value in (None, 3, "x", [])]
    + [("info.json", "summary", value) for value in (None, 3, "x", [])],
)
def test_a_record_of_another_form_hides_no_other_run(tmp_path, name, field, value, capsys):
    """In no table, and in no file of records."""
    for number in (1, 2):
        write_run(tmp_path, number, summary={"model/unbiased/last": 1.0})
    path = tmp_path / "2" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert [record.folder.name for record in read_runs(tmp_path)] == ["1"]
    for words in (["table"], ["list"], ["record", str(tmp_path / "records.csv")]):
        assert results.main([*words, "--store", str(tmp_path)]) == 0
        assert f"left out, as their files are damaged: {tmp_path / '2'}\n" in capsys.readouterr().err
    for words in (["disk"], ["clean"]):
        assert results.main([*words, "--store", str(tmp_path), "--cache-dir", str(tmp_path / "no")]) == 0


def test_what_is_no_run_folder(tmp_path):
    write_run(tmp_path, 1)
    for name in ("stages", "_sources", "12x", "7"):
        (tmp_path / name).mkdir()
    (tmp_path / "5").write_text("a file")
    half = tmp_path / "8"
    half.mkdir()
    (half / "config.json").write_text(json.dumps(CONFIG))
    assert [record.folder.name for record in read_runs(tmp_path)] == ["1"]
