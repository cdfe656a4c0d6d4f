"""The files of a run: whole whoever writes them at the same moment."""

import json
import threading
from pathlib import Path

from debias.tracking.observers import RunFiles


def test_two_threads_write_one_file_of_a_run(tmp_path: Path) -> None:
    files = RunFiles(str(tmp_path))
    files.dir = str(tmp_path)
    content = {f"metric {i}": list(range(20)) for i in range(200)}
    failed: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(60):
                files.save_json(content, "run.json")
        except BaseException as error:  # a thread's error is seen by nobody else
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8")) == content
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
