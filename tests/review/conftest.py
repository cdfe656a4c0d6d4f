"""A run that mined small photographs, without the training; its page served, and asked."""

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from debias.commands.review import load_session
from debias.config import resolve
from debias.data.loading import load_task
from debias.data.split import Task
from debias.review.server import HOST, Server
from debias.tracking.pictures.suspects import write_suspects
from debias.training.artifacts import ConflictScore
from tests import photos


class Mined:
    """A run in a store: `folder`, `store`, its `photos` and what it mined them with."""

    def __init__(self, folder: Path, root: Path, config: dict[str, Any]) -> None:
        self.folder, self.store, self.photos, self.config = folder, folder.parent, root, config

    def task(self, **also: Any) -> Task:
        return load_task({**self.config, **also})

    def mine(self, also: Callable[[int], float] = lambda place: 0.0) -> None:
        """Write suspects.csv: a tenth of the images are suspects, of falling scores."""
        task = self.task()
        count = len(task.train)
        score = torch.tensor([max(0.99 - 0.01 * place, 0.1) if place % 10 == 0 else 0.05 for place in range(count)])
        write_suspects(
            self.folder, task, ConflictScore(task.train.ids, score, 0.5, "mine_gce", torch.logit(score)), sheet=False
        )


@pytest.fixture
def mined(tmp_path: Path, configured: Callable[..., dict[str, Any]]) -> Mined:
    root, folder = photos.class_folders(tmp_path / "photos", each=40), tmp_path / "runs" / "1"
    folder.mkdir(parents=True)
    config = configured(
        "own_images", f"data_dir={root}", "image_size=32", f"cache_dir={tmp_path / 'cache'}", "features=none",
        "progress=False", "threads=1",
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    run = Mined(folder, root, resolve(config))
    run.mine()
    return run


class Asked:
    """A served page, asked as a browser would, or otherwise."""

    def __init__(self, server: Server) -> None:
        self.server, self.session = server, server.session
        self.host = f"{HOST}:{server.server_port}"

    def __call__(
        self, path: str, body: Any = None, method: str | None = None, token: str | None = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, body (JSON read) and headers; `body` bytes are sent as they are."""
        connection = http.client.HTTPConnection(HOST, self.server.server_port, timeout=30)
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        known = {"Host": self.host} | ({} if sent is None else {"Content-Type": "application/json"})
        given = known | {name.replace("_", "-"): value for name, value in headers.items()}
        start = f"/{self.server.token if token is None else token}/" if token != "" else "/"
        connection.request(method or ("GET" if sent is None else "POST"), f"{start}{path}", sent, given)
        answer = connection.getresponse()
        data, about = answer.read(), dict(answer.getheaders())
        connection.close()
        is_json = about.get("Content-Type", "").startswith("application/json")
        return answer.status, json.loads(data) if is_json and data else data, about

    def mark(self, **marks: Any) -> None:
        """mark(_5="fine") marks image 5."""
        given = [{"id": int(name[1:]), "mark": mark} for name, mark in marks.items()]
        assert self("marks", {"marks": given})[0] == 200


@pytest.fixture
def served() -> Iterator[Callable[..., Any]]:
    @contextmanager
    def serve(run: Mined, **options: Any) -> Iterator[Asked]:
        session = load_session(
            run.folder, {**{"data_dir": None, "cache_dir": None, "threads": 1, "marks": None}, **options}
        )
        try:
            server = Server(session)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield Asked(server)
            finally:
                server.shutdown()
                thread.join()
                server.close()
        finally:
            session.marks.close()

    yield serve
