"""Omniboard on runs of ours: over REST it answers what the database holds; and what the user sees in a browser."""

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest

from debias.tracking.mongo.browse import _whole, give_columns
from tests.tracking.mongo.conftest import eventually
from tests.tracking.mongo.test_observer import train

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(
    NODE is None or not (ROOT / "node_modules" / "omniboard").is_dir(), reason="no Omniboard here: Node 20 and `npm ci`"
)


@pytest.fixture
def omniboard(address, small_run):
    """Omniboard's address, on three finished runs and a failed one."""

    def fail(run):
        raise RuntimeError("broken")

    for method in ("erm", "denetdm", "lff"):
        small_run(train, address, method=method, seed=len(method))
    with pytest.raises(RuntimeError):
        small_run(fail, address, method="jtt")
    assert give_columns(address) and not give_columns(address)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(NODE), "-r", "./scripts/loopback.cjs", "node_modules/.bin/omniboard"],
        cwd=ROOT,
        env={**os.environ, "PORT": str(port), "MONGO_URI": _whole(address)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: reachable("127.0.0.1", port))
        yield f"http://127.0.0.1:{port}/sacred"
    finally:
        process.kill()
        process.wait()


def reachable(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) == 0


def ask(url: str):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


def test_rest_and_who_is_listened_to(omniboard, database):
    port = int(omniboard.split(":")[2].split("/")[0])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    assert [place for place in listening if place.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]
    runs = {run["_id"]: run for run in ask(f"{omniboard}/api/v1/Runs")}
    stored = {run["_id"]: run for run in database.runs.find()}
    assert runs.keys() == stored.keys() and len(runs) == 4
    for number, run in runs.items():
        assert (run["status"], run.get("result")) == (stored[number]["status"], stored[number].get("result"))
        assert run["config"]["method"] == stored[number]["config"]["method"]
    query = "%7B%22config.method%22%3A%22lff%22%7D"
    assert [run["_id"] for run in ask(f"{omniboard}/api/v1/Runs?query={query}")] == [3]
    detail = ask(f"{omniboard}/api/v1/Runs/1")
    metrics = ask(f"{omniboard}/api/v1/Metrics?query=%7B%22run_id%22%3A1%7D")
    curves = {metric["name"]: metric["values"] for metric in metrics}
    assert curves["unbiased"] == [10.0, 20.0, 30.0] and detail["captured_out"] == "a line of output\n"
    (artifact,) = detail["artifacts"]
    file_id = artifact["file_id"]
    file_id = file_id["_id"] if isinstance(file_id, dict) else file_id
    url = f"{omniboard}/api/v1/files/download/{file_id}/curve.png"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.read() == b"\x89PNG picture"
    heads = {column["name"] for column in ask(f"{omniboard}/api/v1/Omniboard.Custom.Columns")}
    assert heads == {"method", "data set", "skew", "seed"}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_in_a_browser(omniboard, tmp_path):
    script = Path(__file__).with_name("omniboard.cjs")
    done = subprocess.run(
        [str(NODE), str(script), str(CHROMIUM), omniboard, "2", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    heads = seen["table"].split("6")[0]
    for head in ("Method", "Data set", "Skew", "Seed", "Unbiased %", "Conflicting %"):
        assert head in heads
    for cell in ("erm", "denetdm", "lff", "colored_mnist", "0.01", "30", "FAILED"):
        assert cell in seen["table"]
    assert set(seen["curves"]) == {"pretrain/model/unbiased", "pretrain/loss", "unbiased"}
    assert seen["elsewhere"] == []
    assert (tmp_path / "table.png").stat().st_size > 10_000 and (tmp_path / "plot.png").stat().st_size > 10_000
