"""Runs against a server over TCP: however they end, and whatever becomes of the server."""

import datetime
import json
import math
import os
import signal
import threading
import time
from pathlib import Path

import gridfs
import pytest
from pymongo import MongoClient

from debias.errors import UserError
from debias.tracking.folders import read_runs
from debias.tracking.mongo.address import parse_address
from debias.tracking.mongo.mirror import Mirror
from debias.tracking.mongo.observer import MongoMirror
from debias.tracking.mongo.sync import bring_all, read_database
from tests.tracking.mongo.conftest import eventually, start

NAMES = ("pretrain/model/unbiased", "pretrain/loss")


def train(run):
    """Three epochs, an artifact, a summary and some output."""
    for epoch in (1, 2, 3):
        log(run, epoch)
    picture = Path(run.config["store"]) / "curve.png"
    picture.write_bytes(b"\x89PNG picture")
    run.add_artifact(picture)
    run.info["summary"] = {"model/unbiased/last": 50.0}
    print("a line of output")
    return 50.0


def log(run, epoch):
    for name in NAMES:
        run.log_scalar(name, float(10 * epoch), epoch)


def metrics_of(database):
    return {(m["run_id"], m["name"]): (m["steps"], m["values"]) for m in database.metrics.find()}


def test_a_completed_run(small_run, address, database):
    run = small_run(train, address)
    (record,) = database.runs.find()
    assert (record["_id"], record["status"], record["result"]) == (1, "COMPLETED", 50.0)
    assert record["config"]["method"] == "erm" and record["config"]["pretrain"] == {"epochs": 3}
    assert record["info"]["summary"] == {"model/unbiased/last": 50.0}
    assert record["captured_out"] == "a line of output\n"
    assert isinstance(record["start_time"], datetime.datetime) and record["stop_time"] >= record["start_time"]
    metrics = metrics_of(database)
    # The figure of the final model also stands under a name that all methods share.
    assert set(metrics) == {(1, name) for name in (*NAMES, "unbiased")}
    assert all(curve == ([1, 2, 3], [10.0, 20.0, 30.0]) for curve in metrics.values())
    named = {metric["name"]: metric["id"] for metric in record["info"]["metrics"]}
    assert named == {metric["name"]: str(metric["_id"]) for metric in database.metrics.find()}
    files = gridfs.GridFS(database)
    (artifact,) = record["artifacts"]
    assert artifact["name"] == "curve.png" and files.get(artifact["file_id"]).read() == b"\x89PNG picture"
    assert run.status == "COMPLETED"


def test_sources_of_many_runs_are_stored_once(small_run, address, database):
    for _ in range(2):
        small_run(train, address)
    one, two = (record["experiment"]["sources"] for record in database.runs.find())
    assert one == two and len(one) > 0
    file_id = one[0][1]
    assert gridfs.GridFS(database).get(file_id).read().startswith(b'"""')
    stored = [file["filename"] for file in database.fs.files.find()]
    assert len(stored) == len(set(stored))


def test_a_failed_run(small_run, address, database):
    def fail(run):
        log(run, 1)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        small_run(fail, address)
    (record,) = database.runs.find()
    assert record["status"] == "FAILED" and "RuntimeError: broken" in "".join(record["fail_trace"])
    assert metrics_of(database)[1, NAMES[0]] == ([1], [10.0])


def test_an_interrupted_run(small_run, address, database):
    def interrupt(run):
        log(run, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_run(interrupt, address)
    (record,) = database.runs.find()
    assert record["status"] == "INTERRUPTED" and record["stop_time"]


def killed(address, store):
    def die(run):
        log(run, 1)
        with MongoClient(address.url) as client:
            eventually(lambda: client[address.database].metrics.count_documents({}) >= len(NAMES))
        os.kill(os.getpid(), signal.SIGKILL)

    start(die, address, store)


def test_a_killed_run(address, database, tmp_path, processes):
    process = processes.Process(target=killed, args=(address, tmp_path / "runs"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (record,) = database.runs.find()
    assert record["status"] == "RUNNING" and "stop_time" not in record
    assert metrics_of(database)[1, NAMES[0]] == ([1], [10.0])
    long_ago = datetime.datetime(2020, 1, 1)
    database.runs.update_one({}, {"$set": {"heartbeat": long_ago}})
    assert [run.status for run in read_database(address)] == ["KILLED"]


def one_of_two(address, store, method):
    start(train, address, store, method=method)


def test_two_at_once(address, database, tmp_path, processes):
    """In one store, and beside them a third one of another store whose folder has the same number."""
    jobs = [("runs", "erm"), ("runs", "lff"), ("other", "jtt")]
    started = [processes.Process(target=one_of_two, args=(address, tmp_path / store, name)) for store, name in jobs]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
    records = list(database.runs.find())
    assert sorted(record["config"]["method"] for record in records) == ["erm", "jtt", "lff"]
    assert sorted(record["_id"] for record in records) == [1, 2, 3]
    assert all(record["status"] == "COMPLETED" for record in records)
    assert len(metrics_of(database)) == 9


def test_a_server_that_is_killed_and_comes_back(small_run, mortal, tmp_path, capfd):
    """Everything arrives, once, without anything being done."""
    address = parse_address(f"mongodb://127.0.0.1:{mortal.port}/x")

    def body(run):
        log(run, 1)
        with MongoClient(address.url) as client:
            eventually(lambda: client["x"].metrics.count_documents({}))
        mortal.kill()
        log(run, 2)
        mirror = run.observers[-1]
        eventually(lambda: not mirror._answering)
        mortal.start()
        eventually(lambda: mirror._answering)
        log(run, 3)
        return 1.0

    small_run(body, address)
    with MongoClient(address.url) as client:
        (record,) = client["x"].runs.find()
        assert record["status"] == "COMPLETED"
        assert metrics_of(client["x"])[1, NAMES[0]] == ([1, 2, 3], [10.0, 20.0, 30.0])
        assert client["x"].metrics.count_documents({}) == 3
    err = capfd.readouterr().err
    assert err.count("the run continues") == 1 and err.count("answers again") == 1


def test_a_server_that_stays_away_costs_the_run_nothing(small_run, mortal, tmp_path, capfd, monkeypatch):
    """And sync brings all of it, once, however often."""
    monkeypatch.setattr(MongoMirror, "impatience", 0.5)
    address = parse_address(f"mongodb://127.0.0.1:{mortal.port}/x")

    def body(run):
        log(run, 1)
        with MongoClient(address.url) as client:
            eventually(lambda: client["x"].metrics.count_documents({}))
        mortal.kill()
        log(run, 2)
        return train(run)

    run = small_run(body, address)
    assert run.status == "COMPLETED"
    assert "`python main.py sync` brings the rest" in capfd.readouterr().err
    mortal.start()
    assert bring_all(address, tmp_path / "runs", 2**20, progress=False) == (1, 1, [])
    assert bring_all(address, tmp_path / "runs", 2**20, progress=False) == (1, 0, [])
    with MongoClient(address.url) as client:
        (record,) = client["x"].runs.find()
        assert record["status"] == "COMPLETED" and record["result"] == 50.0
        assert metrics_of(client["x"])[1, NAMES[0]] == ([1, 2, 1, 2, 3], [10.0, 20.0, 10.0, 20.0, 30.0])
        assert len(record["artifacts"]) == 1
        artifacts = [f for f in client["x"].fs.files.find() if f["filename"].startswith("artifact")]
        assert len(artifacts) == 1


def test_events_do_not_wait_for_the_server(small_run, address, monkeypatch):
    """The delivery is stuck until the run is over; were an event to wait for it, this test would not end."""
    over, stuck = threading.Event(), threading.Event()
    bring = Mirror.bring

    def slow(self, folder):
        stuck.set()
        over.wait()
        return bring(self, folder)

    monkeypatch.setattr(Mirror, "bring", slow)

    def body(run):
        stuck.wait()
        for epoch in range(1, 4):
            log(run, epoch)
            run._emit_heartbeat()
        result = train(run)
        over.set()
        return result

    assert small_run(body, address).status == "COMPLETED"


def test_a_server_that_is_absent_at_the_start(small_run, impatient, tmp_path, capfd):
    address = parse_address("mongodb://someone:secret@127.0.0.1:9/x")
    assert small_run(train, address).status == "COMPLETED"
    err = capfd.readouterr().err
    assert err.count("mongodb://127.0.0.1:9/x: no answer; the run continues and is kept in files") == 1
    assert "secret" not in err and "Traceback" not in err
    assert [run.status for run in read_runs(tmp_path / "runs")] == ["COMPLETED"]


def test_a_required_server_that_is_absent(small_run, impatient, tmp_path):
    with pytest.raises(UserError, match="no answer; start it, or set mongo_required=False"):
        small_run(train, parse_address("mongodb://127.0.0.1:9/x"), mongo_required=True)
    assert not list((tmp_path / "runs").glob("[0-9]*"))


def test_what_mongodb_cannot_hold(small_run, address, database):
    def body(run):
        for step, value in enumerate((math.nan, math.inf, 1.0)):
            run.log_scalar("odd", value, step)
        run.info["strange"] = {"a.b": 2**70, "$c": "\ud800", "d": [1, None, True]}
        return 1.0

    small_run(body, address)
    (record,) = database.runs.find()
    assert record["status"] == "COMPLETED"
    assert record["info"]["strange"] == {"a,b": float(2**70), "@c": "?", "d": [1, None, True]}
    values = database.metrics.find_one({"name": "odd"})["values"]
    assert math.isnan(values[0]) and values[1:] == [math.inf, 1.0]


def test_large_files_stay_on_disk(small_run, address, database, tmp_path):
    def body(run):
        for name, size in (("small.bin", 1000), ("weights.safetensors", 3000)):
            path = tmp_path / name
            path.write_bytes(b"x" * size)
            run.add_artifact(path)
        return 1.0

    small_run(body, address, mongo_file_mb=2000 / 2**20)
    (record,) = database.runs.find()
    assert [artifact["name"] for artifact in record["artifacts"]] == ["small.bin"]
    (kept,) = record["info"]["kept_on_disk"]
    assert kept["name"] == "weights.safetensors" and kept["bytes"] == 3000 and len(kept["sha256"]) == 64
    assert Path(kept["path"]).read_bytes() == b"x" * 3000


def test_the_captured_output_stays_small(small_run, address, database, tmp_path):
    def body(run):
        for number in range(3):
            print(f"{number}é" * 200_000)
            # The timer's own beats take it: a beat from here beside one of them would be two writers of one file.
            end = time.monotonic() + 20
            while f"{number}é" not in run.captured_out and "is not kept" not in run.captured_out:
                assert time.monotonic() < end, "no beat took the output"
                time.sleep(0.01)
        return 1.0

    small_run(body, address)
    (record,) = database.runs.find()
    for text in (record["captured_out"], (tmp_path / "runs" / "1" / "cout.txt").read_text(encoding="utf-8")):
        assert text.startswith("0é0é") and text.endswith("is not kept)\n")
        assert len(text.encode()) <= 1_000_000


def test_what_a_person_writes_there_stays(small_run, address, database, tmp_path):
    small_run(train, address)
    database.runs.update_one({}, {"$set": {"meta.comment": "mine", "omniboard": {"tags": ["best"]}}})
    cout = tmp_path / "runs" / "1" / "cout.txt"
    cout.write_text("changed", encoding="utf-8")
    assert bring_all(address, tmp_path / "runs", 2**20, progress=False)[1] == 1
    (record,) = database.runs.find()
    assert (record["captured_out"], record["meta"]["comment"]) == ("changed", "mine")
    assert record["omniboard"] == {"tags": ["best"]}


def test_one_folder_brought_by_many_at_once_is_there_once(small_run, address, database, tmp_path):
    small_run(train, None)
    # Another run of this number is there already.
    database.runs.insert_one({"_id": 1})
    folder = tmp_path / "runs" / "1"
    with MongoClient(address.url) as client:
        client[address.database].runs.create_index("uid", unique=True, sparse=True)
        mirrors = [Mirror(client[address.database], tmp_path / "runs", 2**20) for _ in range(4)]
        threads = [threading.Thread(target=mirror.bring, args=(folder,)) for mirror in mirrors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(record["_id"] for record in database.runs.find()) == [1, 2]
    assert len(metrics_of(database)) == 3


def test_no_file_outside_the_folder_is_brought(small_run, address, database, tmp_path):
    (tmp_path / "private.txt").write_text("private")
    small_run(train, None)
    path = tmp_path / "runs" / "1" / "run.json"
    run = json.loads(path.read_text())
    run["artifacts"] = ["../../private.txt", str(tmp_path / "private.txt"), "curve.png", "gone.png"]
    run["experiment"]["sources"] = [["a", "../private.txt"]]
    path.write_text(json.dumps(run))
    bring_all(address, tmp_path / "runs", 2**20, progress=False)
    (record,) = database.runs.find()
    assert [artifact["name"] for artifact in record["artifacts"]] == ["curve.png"]
    assert record["experiment"]["sources"] == []
    assert database.fs.files.count_documents({}) == 1


def test_damaged_folders_hold_up_no_other(small_run, address, database, tmp_path):
    for _ in range(3):
        small_run(train, None)
    damaged = tmp_path / "runs" / "2"
    (damaged / "metrics.json").write_text('{"half')
    assert bring_all(address, tmp_path / "runs", 2**20, progress=False) == (2, 2, [str(damaged)])
    assert sorted(record["_id"] for record in database.runs.find()) == [1, 3]


def test_syncing_into_a_lost_server_and_from_nowhere(tmp_path):
    address = parse_address("mongodb://127.0.0.1:9/x")
    with pytest.raises(UserError, match="no such folder"):
        bring_all(address, tmp_path / "runs", 2**20, progress=False)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="no answer; nothing is lost"):
        bring_all(address, tmp_path / "runs", 2**20, progress=False)
