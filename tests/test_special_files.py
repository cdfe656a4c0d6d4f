"""Pipes, devices and links where files are read: nothing waits for them, and what needs them says so in a line."""

import json
import os
import signal

import numpy as np
import pytest

from debias import results, sweep
from debias.data.cache import cached, key_of
from debias.training.artifacts import Report
from debias.training.store import Store

KINDS = ("pipe", "device", "loop", "sparse")


@pytest.fixture(autouse=True)
def _watched():
    """A test that waits for a pipe would wait for ever."""

    def ring(*_):
        raise TimeoutError("it waits for something")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def put(path, kind):
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)


READING = [
    ("sweep x.yaml --dry-run", "x.yaml"), ("show x.csv", "x.csv"), ("table --records x.csv", "x.csv"),
    ("docs x.md", "x.md"), ("record x.csv --store store", "x.csv"), ("search --store store", "store/sweeps/x.storage"),
]  # fmt: skip


# A link that leads nowhere is no record that is there: `record` makes one.
@pytest.mark.parametrize(
    ("words", "name", "kind"),
    [
        (words, name, kind)
        for words, name in READING
        for kind in KINDS
        if not (words[:6] == "record" and kind == "loop")
    ],
)
def test_what_is_named_is_refused_in_a_line(words, name, kind, add_run, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    add_run("erm", unbiased=1.0).rename(tmp_path / "1.run")
    (tmp_path / "store" / "sweeps").mkdir(parents=True)
    (tmp_path / "1.run").rename(tmp_path / "store" / "1")
    put(tmp_path / name, kind)
    first, *rest = words.split()
    assert (sweep.main(rest) if first == "sweep" else results.main([first, *rest])) == 2
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 1 and err[0].startswith("error: ") and name in err[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["done.json", "result.pt", "checkpoint.pt"])
def test_a_stored_stage_is_computed_again(kind, name, tmp_path):
    folder = Store(tmp_path / "stages").folder("pretrain", "0123")
    folder.save_result({"report": Report(history=[{"epoch": 1.0}], summary={}, matrices={})}, {})
    put(folder.path / name, kind)
    if name == "checkpoint.pt" and kind != "loop":
        with pytest.warns(UserWarning, match="not used"):
            assert folder.load_checkpoint() is None
    elif name != "checkpoint.pt" and (kind, name) != ("loop", "done.json"):
        with pytest.warns(UserWarning, match="not used"):
            assert folder.load_result() is None
    else:
        # A link that leads nowhere is no file that is there.
        assert folder.load_checkpoint() is None
        assert name == "checkpoint.pt" or folder.load_result() is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["meta.json", "images.npy"])
def test_a_cache_is_built_again(kind, name, tmp_path):
    def arrays():
        return cached(tmp_path, "set", key_of(x=1), lambda: {"images": np.arange(3)})

    arrays()
    (folder,) = tmp_path.glob("set-*/")
    put(folder / name, kind)
    with pytest.warns(UserWarning, match="is damaged .*building it again"):
        assert arrays()["images"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["run.json", "config.json", "info.json", "metrics.json", "matrices.json", "curve.png"])
def test_the_file_of_a_run(kind, name, add_run, tmp_path, capsys):
    """A run of which something cannot be read hides no other run from tables, reports, disk and clean."""
    add_run("erm", unbiased=1.0)
    folder = add_run("lff", unbiased=2.0)
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"artifacts": ["curve.png"]}))
    put(folder / name, kind)
    store = ["--store", str(tmp_path)]
    for words in (["table"], ["list"], ["report", "--out", str(tmp_path / "r.html")]):
        assert results.main([*words, *store]) == 0
        assert "erm" in capsys.readouterr().out or words[0] == "report"
    for words in (["disk"], ["clean"]):
        assert results.main([*words, *store, "--cache-dir", str(tmp_path / "no")]) == 0
