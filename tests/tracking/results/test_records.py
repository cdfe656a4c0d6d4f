"""Runs as rows of a CSV file: what is written is read back, and a file that is none is refused."""

import csv

import pytest

from debias.errors import UserError
from debias.tracking.results.records import read_records, settings_of, write_records


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "records.csv"


def test_a_run_is_read_back(record, path):
    run = record(
        ["branches", "distill"],
        summary={"target/unbiased/last": 12.3456789, "shallow/worst/oracle": 0.0},
        limit=None,
        reverse=False,
        note='a "quoted", text',
        branches={"epochs": 3, "learning_rate": 1e-3},
        distill={"teacher": "oracle"},
        store="/somewhere",
        data_dir="/elsewhere",
        info={"stages": {"branches": {}, "distill": {}}},
    )
    assert write_records([run], path) == 1
    (read,) = read_records(path)
    gone = {"store", "data_dir"}
    # None is an empty cell, and so is a setting that a run does not have.
    assert read.config == {name: value for name, value in run.config.items() if name not in gone}
    assert read.summary == {"target/unbiased/last": 12.3457, "shallow/worst/oracle": 0.0}
    assert (read.uid, read.started, read.status, read.command) == (run.uid, run.started, "COMPLETED", "train")
    assert "somewhere" not in path.read_text(encoding="utf-8")


def test_settings_of_stages_that_did_not_run_are_left_out(record):
    run = record("erm", pretrain={"epochs": 3}, distill={"epochs": 4}, info={"stages": {"pretrain": {}}})
    assert settings_of(run)["pretrain.epochs"] == 3 and "distill.epochs" not in settings_of(run)


def test_runs_are_added_and_replaced(record, path):
    write_records([record("erm", 1.0, uid="a"), record("erm", 2.0, uid="b")], path)
    assert write_records([record("lff", 3.0, uid="b"), record("erm", 4.0, uid="c", extra=7)], path) == 3
    assert [(run.uid, run.method, run.summary["model/unbiased/last"]) for run in read_records(path)] == [
        ("a", "erm", 1.0),
        ("b", "lff", 3.0),
        ("c", "erm", 4.0),
    ]
    assert ["extra" in run.config for run in read_records(path)] == [False, False, True]


def test_rows_without_a_name_stay(record, path):
    write_records([record("erm", 1.0, uid="a"), record("erm", 2.0, uid="b")], path)
    path.write_text(path.read_text(encoding="utf-8").replace("\na,", "\n,").replace("\nb,", "\n,"), encoding="utf-8")
    assert write_records([record("lff", 3.0, uid="c")], path) == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "no column command"),
        ("", "no column"),
        ("run,started,status,command,device,dataset\n,,COMPLETED,train,,x\n", "line 2: .*columns dataset and method"),
        (
            "run,started,status,command,device,dataset,method,a/b/c\n,,COMPLETED,train,,x,erm,much\n",
            "line 2: could not convert",
        ),
    ],
)
def test_a_file_that_is_no_record(path, text, says):
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        list(read_records(path))


def test_figures_have_four_decimals(record, path):
    write_records([record("erm", 100 / 3)], path)
    with path.open(newline="", encoding="utf-8") as handle:
        assert next(csv.DictReader(handle))["model/unbiased/last"] == "33.3333"


def test_what_a_record_says_beside_is_read_back(record, path):
    """Also of runs in one file with such as do not say it."""
    said = {
        "final": {"stage": "end", "read_out": "model"},
        "data": {"conflicting": None, "content": "ab", "folder": "x"},
    }
    both = {"model/unbiased/last": 1.0, "target/unbiased/last": 2.0}
    labelled = {"data": {"conflicting": 0.0698}}
    write_records([record(summary=both, info=said), record(summary=both), record(info=labelled, unbiased=1.0)], path)
    new, old, measured = read_records(path)
    assert new.final_read_out == "model" and new.conflicting is None and new.info["data"] == said["data"]
    assert old.final_read_out == "target" and old.conflicting == 0.01
    assert measured.conflicting == 0.0698


def test_the_mark_of_changed_training_images_is_read_back(record, path):
    write_records([record("depth_transfer", 97.0, info={"augmentation": "channel_stats"}), record("erm", 50.0)], path)
    assert [one.augmentation for one in read_records(path)] == ["channel_stats", ""]
