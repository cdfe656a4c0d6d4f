"""A server over TCP, and small Sacred runs recorded as runs of the program are.

TEST_MONGO_URL names a true MongoDB to use instead; tests that kill the server are skipped then.
"""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from sacred import Experiment

from debias.tracking.mongo.address import Address, parse_address
from debias.tracking.mongo.observer import MongoMirror
from debias.tracking.observers import kept_output, observers_of, quiet_logger

CONFIG = {
    "dataset": "colored_mnist", "method": "erm", "skew": 0.01, "mongo_file_mb": 1.0, "mongo_required": False,
    "pretrain": {"epochs": 3},
}  # fmt: skip


class Server:
    """A database server in a process of its own that can be killed and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).with_name("secantusd-py")
        words = [str(program), "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(self.folder)]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with MongoClient("127.0.0.1", self.port, serverSelectionTimeoutMS=60_000) as client:
            client.admin.command("ping")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("TEST_MONGO_URL")
    if given:
        yield given
        return
    secantus = pytest.importorskip("secantus", reason="no server: install secantusdb or set TEST_MONGO_URL")
    with secantus.SecantusDBServer(storage_path=str(tmp_path_factory.mktemp("server"))) as server:
        yield server.uri


@pytest.fixture
def address(server_url: str) -> Iterator[Address]:
    """A database of its own for each test."""
    base = parse_address(server_url)
    name = f"debias_test_{uuid.uuid4().hex[:12]}"
    head, _, options = base.url.partition("?")
    scheme, _, rest = head.partition("://")
    own = f"{scheme}://{rest.split('/')[0]}/{name}" + (f"?{options}" if options else "")
    yield parse_address(own)
    with MongoClient(server_url) as client:
        client.drop_database(name)


@pytest.fixture
def database(address: Address) -> Iterator[Any]:
    with MongoClient(address.url) as client:
        yield client[address.database]


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Server]:
    """A running server to kill."""
    if os.environ.get("TEST_MONGO_URL"):
        pytest.skip("the server of TEST_MONGO_URL is not ours to kill")
    pytest.importorskip("secantus")
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliver immediately, and try again soon."""
    monkeypatch.setattr(MongoMirror, "pause", 0.02)
    monkeypatch.setattr(MongoMirror, "retry", 0.05)
    monkeypatch.delenv("MONGO_URL", raising=False)


@pytest.fixture
def small_run(tmp_path: Path) -> Callable[..., Any]:
    """small_run(body, address) runs `body(run)` under Sacred; gives the run."""

    def run(body: Callable[[Any], Any], address: Address | None, store: Path | None = None, **config: Any) -> Any:
        return start(body, address, store or tmp_path / "runs", **config)

    return run


def start(body: Callable[[Any], Any], address: Address | None, store: Path, **config: Any) -> Any:
    experiment = Experiment("debias", save_git_info=False)
    experiment.logger = quiet_logger()  # type: ignore[assignment]
    experiment.captured_out_filter = kept_output  # type: ignore[assignment]
    settings = {**CONFIG, "store": str(store), **config}
    experiment.add_config(settings)

    @experiment.main
    def train(_run: Any) -> Any:
        return body(_run)

    run = experiment._create_run(meta_info={"uid": uuid.uuid4().hex})
    run.beat_interval = 0.05
    run.observers += observers_of(settings, address)
    run()
    return run


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true value of a condition; a failure when there is none in a minute."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("did not come true")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not there is given up after a fifth of a second, ten times sooner than by users' programs."""
    monkeypatch.setattr("debias.tracking.mongo.address.WAIT_MS", 200)
    monkeypatch.setattr(MongoMirror, "impatience", 0.2)
