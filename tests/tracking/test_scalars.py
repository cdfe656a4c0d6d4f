"""Metrics as CSV and as TensorBoard scalars: what a run records, in its folder, and only when asked for."""

import csv
import json
import struct
import sys

from tests.pipeline import short


def scalars(folder):
    """(name, step, value) of the event files: records of length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.glob("events.*"):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            place += 16 + length
    return found


def test_both_hold_what_is_recorded(command, tmp_path):
    assert command(*short("erm"), "csv_metrics=True", "tensorboard=True") == 0
    folder = tmp_path / "runs" / "1"
    metrics = json.loads((folder / "metrics.json").read_text())
    wanted = {(name, step): v for name, m in metrics.items() for step, v in zip(m["steps"], m["values"], strict=True)}
    with (folder / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {(row["metric"], int(row["epoch"])): float(row["value"]) for row in rows} == wanted
    assert len(rows) == len(wanted) > 4
    events = scalars(folder / "tensorboard")
    assert len(events) == len(wanted)
    assert all(abs(value - wanted[name, step]) <= 1e-6 * abs(value) for name, step, value in events)


def test_neither_is_written_unless_asked_for(command, tmp_path):
    assert command(*short("erm", 1)) == 0
    names = {path.name for path in (tmp_path / "runs" / "1").iterdir()}
    assert not names & {"metrics.csv", "tensorboard"}


def test_a_missing_package_is_named(command, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert command(*short("erm", 1), "tensorboard=True") == 2
    assert "pip install tensorboardx" in capfd.readouterr().err
