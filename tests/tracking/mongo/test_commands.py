"""The program with a database: its settings, its command sync, results.py, and a password that shows nowhere."""

import csv
import io

import pytest

from debias import main, results
from debias.tracking.mongo.observer import MongoMirror
from tests.pipeline import short

SECRET = "s3cret-w0rd"


def everything_written(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_the_program(command, address, database, tmp_path, capfd, monkeypatch):
    """Given as a setting and recorded; what results.py reads there is what it reads in files."""
    assert command(*short("denetdm"), f"mongo_url={address.url}", "pictures=True") == 0
    assert f"MongoDB: run 1 in {address}" in capfd.readouterr().err
    (record,) = database.runs.find()
    assert record["status"] == "COMPLETED" and record["config"]["mongo_url"] == str(address)
    metrics = {metric["name"]: metric["values"] for metric in database.metrics.find()}
    # The final model is the target of stage 2, not a branch of stage 1.
    assert metrics["unbiased"] == [round(value, 2) for value in metrics["distill/target/unbiased"]]
    assert metrics["unbiased"][-1] == round(record["result"], 2)
    assert {"unbiased", "conflicting", "aligned", "worst", "average"} <= set(metrics)
    names = {artifact["name"] for artifact in record["artifacts"]}
    assert {"weights.safetensors", "matrices.json", "examples.png"} <= names

    tables = []
    for words in (["--store", str(tmp_path / "runs")], ["--store", str(tmp_path / "none"), "--mongo", address.url]):
        assert results.main([*words, "--format", "csv"]) == 0
        tables.append(list(csv.DictReader(io.StringIO(capfd.readouterr().out))))
    assert tables[0] == tables[1] and len(tables[0]) == 1
    # Read in both places, it counts once.
    monkeypatch.setenv("MONGO_URL", address.url)
    assert results.main(["--store", str(tmp_path / "runs"), "--format", "csv"]) == 0
    assert list(csv.DictReader(io.StringIO(capfd.readouterr().out))) == tables[0]

    assert main.main(["sync", "with", f"store={tmp_path / 'runs'}"]) == 0
    assert f"1 runs of {tmp_path / 'runs'} are in {address}; 0 of them had something new" in " ".join(
        capfd.readouterr().out.split()
    )


@pytest.mark.parametrize("how", ["setting", "variable", "refused"])
def test_a_password_shows_nowhere(how, request, command, server_url, database, tmp_path, capfd, monkeypatch):
    """Whether the server is absent or refuses the password; in files, in what is printed, in the database."""
    monkeypatch.setattr(MongoMirror, "impatience", 0.2)
    if how != "refused":
        request.getfixturevalue("impatient")
    host = server_url.partition("://")[2].partition("/")[0].rpartition("@")[2] if how == "refused" else "127.0.0.1:9"
    url = f"mongodb://someone:{SECRET}@{host}/{database.name}?authSource=admin"
    words = [*short("erm", 1)]
    if how == "variable":
        monkeypatch.setenv("MONGO_URL", url)
    else:
        words.append(f"mongo_url={url}")
    assert command(*words) == 0
    assert command(*words, "mongo_required=True") == 2
    assert main.main(["sync", "with", f"store={tmp_path / 'runs'}", f"mongo_url={url}"]) == 2
    assert main.main([f"mongo_url={url}"]) == 2
    assert main.main(["trian", "with", f"mongo_url={url}"]) == 2
    assert main.main(["print_config", "with", f"mongo_url={url}"]) == 0
    assert results.main(["--mongo", url, "--store", str(tmp_path)]) == 2
    out, err = capfd.readouterr()
    assert host in err and SECRET not in out + err and "Traceback" not in err
    written = everything_written(tmp_path)
    assert any(path.name == "config.json" for path in written)
    assert not [path for path, content in written.items() if SECRET.encode() in content]


def test_sacreds_own_flag(address, database, command):
    """-m is recorded by our observer, which does not wait for the server."""
    host = address.url.partition("://")[2].partition("/")[0]
    if "@" in host or "," in host:
        pytest.skip("Sacred's flag takes a host and a port")
    assert command(*short("erm", 1), "-m", f"{host}:{database.name}") == 0
    assert [record["status"] for record in database.runs.find()] == ["COMPLETED"]


def test_which_database(capfd, monkeypatch, tmp_path):
    monkeypatch.delenv("MONGO_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main.main(["sync"]) == 2
    assert "which database?" in capfd.readouterr().err
