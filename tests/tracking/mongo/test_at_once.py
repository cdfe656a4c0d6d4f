"""Several `sync` of one store at once, as real processes: every file and every record is in the database once."""

import pytest

from debias.tracking.mongo.address import parse_address
from debias.tracking.mongo.sync import bring_all
from tests.tracking.mongo.test_observer import train


def sync(url, store, begin):
    """In a process of its own, as soon as all others are there."""
    address = parse_address(url)
    begin.wait(60)
    bring_all(address, store, 2**20, progress=False)


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
    files = [(file["filename"], file["metadata"]["sha256"]) for file in database.fs.files.find()]
    artifacts = [name for name, _ in files if name.startswith("artifact://")]
    assert len(artifacts) == 3 and len(files) > 3
    assert len(files) == len(set(files)), "a file is stored more than once"
    assert len(database.fs.chunks.distinct("files_id")) == len(files)
    assert sorted(record["_id"] for record in database.runs.find()) == [1, 2, 3]
    assert len(database.runs.distinct("uid")) == 3
    assert database.metrics.count_documents({}) == 9
    # All of it: one more has nothing to bring.
    assert bring_all(address, store, 2**20, progress=False) == (3, 0, [])
