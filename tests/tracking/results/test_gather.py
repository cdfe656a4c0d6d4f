"""Runs from several places, each once, and filters by any setting."""

import pytest

from debias.errors import UserError
from debias.tracking.results.gather import Filter, choose, flatten, gather
from debias.tracking.results.records import write_records


def passing(records, *words):
    return [record.uid for record in choose(records, [Filter.parse(word) for word in words])]


@pytest.fixture
def runs(record):
    return [
        record("erm", 1.0, skew=0.05, pretrain={"epochs": 100}),
        record("lff", 2.0, skew=0.01, status="FAILED"),
        record(["branches", "distill"], 3.0, skew=0.005, reverse=True),
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["u1", "u2", "u3"]),
        (["method=erm"], ["u1"]),
        (["method=erm,lff"], ["u1", "u2"]),
        (["method!=erm"], ["u2", "u3"]),
        (["method=[branches, distill]"], []),
        (["method=branches + distill"], ["u3"]),
        (["skew<=0.01"], ["u2", "u3"]),
        (["skew<.01"], ["u3"]),
        (["skew>=5e-2"], ["u1"]),
        (["skew>0.05"], []),
        (["skew=0.010"], ["u2"]),
        (["pretrain.epochs=100"], ["u1"]),
        (["pretrain.epochs!=100"], ["u2", "u3"]),
        (["pretrain.epochs>3"], ["u1"]),
        (["status=failed"], ["u2"]),
        (["reverse=true"], ["u3"]),
        (["skew<0.02", "status!=FAILED"], ["u3"]),
    ],
    ids=str,
)
def test_filters(runs, words, expected):
    assert passing(runs, *words) == expected


@pytest.mark.parametrize("word", ["erm", "=3", "skew<many", "skew"])
def test_a_filter_that_is_none(word):
    with pytest.raises(UserError, match="filter"):
        Filter.parse(word)


def test_an_unknown_setting_is_named(runs):
    with pytest.raises(UserError, match="no run has a setting 'sed'; did you mean seed"):
        passing(runs, "sed=3")


def test_flatten():
    assert flatten({"a": 1, "b": {"c": 2, "d": {"e": 3}}}) == {"a": 1, "b.c": 2, "b.d.e": 3}


def test_a_run_kept_in_three_places_comes_once_and_the_oldest_first(add_run, record, tmp_path):
    add_run("erm", unbiased=1.0, started="2026-01-02T00:00:00")
    add_run("lff", unbiased=2.0, started="2026-01-01T00:00:00")
    (one, two) = gather([tmp_path], [])
    assert (one.method, two.method) == ("lff", "erm")
    path = tmp_path / "records.csv"
    write_records([one, two, record("jtt", 3.0, started="2026-01-03")], path)
    found = gather([tmp_path], [path], [one, record("dcwp", 4.0, started="2026-01-04")])
    assert [run.method for run in found] == ["lff", "erm", "jtt", "dcwp"]
    assert [run.folder.parent for run in found[:2]] == [tmp_path, tmp_path]
