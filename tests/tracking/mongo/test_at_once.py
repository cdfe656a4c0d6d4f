"""Several `sync` of one store, as real processes, at once or killed: every file and record is in the database once."""

import hashlib
import os
import signal

import gridfs
import pytest
from pymongo import monitoring

from debias.tracking.mongo.address import parse_address
from debias.tracking.mongo.sync import bring_all
from tests.tracking.mongo.test_observer import train


def sync(url, store, begin):
    """In a process of its own, as soon as all others are there."""
    address = parse_address(url)
    begin.wait(60)
    bring_all(address, store, 2**20, progress=False)


def whole(database, runs):
    """So many runs are there, each file and record of them once, and every file with all its bytes."""
    files = [(file["filename"], file["metadata"]["sha256"]) for file in database.fs.files.find()]
    artifacts = [name for name, _ in files if name.startswith("artifact://")]
    assert len(artifacts) == runs and len(files) > runs
    assert len(files) == len(set(files)), "a file is stored more than once"
    for file in database.fs.files.find():
        stored = gridfs.GridFS(database).get(file["_id"]).read()
        assert hashlib.sha256(stored).hexdigest() == file["metadata"]["sha256"]
    assert sorted(record["_id"] for record in database.runs.find()) == list(range(1, runs + 1))
    assert len(database.runs.distinct("uid")) == runs
    assert database.metrics.count_documents({}) == 3 * runs


@pytest.mark.parametrize("count", [2, 4])
def test_sync_at_once(small_run, address, database, tmp_path, processes, count):
    store = tmp_path / "runs"
    for _ in range(3):
        small_run(train, None)
    begin = processes.Barrier(count)
    started = [processes.Process(target=sync, args=(address.url, store, begin)) for _ in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    whole(database, 3)
    assert len(database.fs.chunks.distinct("files_id")) == database.fs.files.count_documents({})
    # All of it: one more has nothing to bring.
    assert bring_all(address, store, 2**20, progress=False) == (3, 0, [])


class Killer(monitoring.CommandListener):
    """Kills this process when so many commands were sent to a server."""

    def __init__(self, after):
        self.left = after

    def started(self, event):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def sync_and_die(url, store, after):
    monitoring.register(Killer(after))
    bring_all(parse_address(url), store, 2**20, progress=False)


def test_sync_is_killed_again_and_again(small_run, address, database, tmp_path, processes):
    """At a later command each time, so that it comes further; then one that nobody kills."""
    store = tmp_path / "runs"
    for _ in range(2):
        small_run(train, None)
    for after in (2, 4, 6, 9, 12, 15, 18, 21):
        process = processes.Process(target=sync_and_die, args=(address.url, store, after))
        process.start()
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, after
    assert bring_all(address, store, 2**20, progress=False)[0] == 2
    whole(database, 2)
    assert bring_all(address, store, 2**20, progress=False) == (2, 0, [])
