"""The report: what it shows, that nothing in a record can break out of its text, and how it looks in a browser."""

import base64
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from debias import results

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "\"><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"


class Parsed(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def fill(folder: Path, value: float) -> None:
    """Curves, pictures and what Sacred writes of the machine."""
    times = [f"2026-01-01T00:00:{epoch:02}" for epoch in range(20)]
    curve = {"steps": list(range(1, 21)), "values": [value + epoch for epoch in range(20)], "timestamps": times}
    (folder / "metrics.json").write_text(json.dumps({"pretrain/model/unbiased": curve, "pretrain/loss": curve}))
    image = np.random.default_rng(0).random((40, 60, 3))
    for name in ("matrix-pretrain-model", "examples", "suspects", f"own {HOSTILE[:30].replace('/', '')}"):
        matplotlib.image.imsave(folder / f"{name}.png", image)
    (folder / "fake.png").write_text("<svg onload=alert(1)>")
    run = json.loads((folder / "run.json").read_text())
    host = {"cpu": HOSTILE, "os": ["Linux", "x"], "python_version": "3.11"}
    run |= {"host": host, "experiment": {"dependencies": ["torch==2.15.0"]}}
    (folder / "run.json").write_text(json.dumps(run))


@pytest.fixture
def report(add_run, tmp_path, canvases):
    """The page of three runs, one of which has a hostile text wherever the user may write one."""
    for seed, method in enumerate(("erm", "erm", HOSTILE)):
        config = {"seed": seed, "note": HOSTILE, HOSTILE: HOSTILE, "mongo_url": "mongodb://me:s3cret@host:1/db"}
        config["pretrain"] = {"epochs": 10 * seed, "learning_rate": HOSTILE}
        fill(add_run(method, unbiased=50.0 + seed, config=config), 40.0 + seed)
    add_run("jtt", status="FAILED", config={"dataset": HOSTILE})
    path = tmp_path / "out" / "report.html"
    assert results.main(["report", "--out", str(path), "--store", str(tmp_path), "--title", HOSTILE]) == 0
    return path


def test_everything_is_inside_and_nothing_breaks_out(report):
    page = report.read_text(encoding="utf-8")
    parsed = Parsed(page)
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"script", "link", "iframe", "object", "form", "svg"}
    for tag, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#"))
    policy = [a["content"] for tag, a in parsed.tags if tag == "meta" and "http-equiv" in a]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert parsed.text.count(HOSTILE) > 5
    assert "s3cret" not in page


def test_what_it_shows(report):
    page = report.read_text(encoding="utf-8")
    parsed = Parsed(page)
    for part in ("50.00", "51.00", "failed", "pretrain.epochs", "torch 2.15.0", "matrix pretrain model", "suspects"):
        assert part in parsed.text
    pictures = [base64.b64decode(a["src"].partition(",")[2]) for tag, a in parsed.tags if tag == "img"]
    # A chart of the three runs, and four pictures of each; the file that is not a picture is left out.
    assert len(pictures) == 1 + 3 * 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_where_models_look_is_shown_with_its_lines(add_run, tmp_path):
    lines = {"lines": [f"the border: 40 % of the heat {HOSTILE}"], "regions": {}}
    image = np.random.default_rng(0).random((40, 60, 3))
    matplotlib.image.imsave(add_run("gce_balanced", unbiased=50.0, info={"heat": lines}) / "heat.png", image)
    # What somebody else has written under that name is no harm.
    add_run("erm", unbiased=50.0, info={"heat": "warm"})
    path = tmp_path / "report.html"
    assert results.main(["report", "--out", str(path), "--store", str(tmp_path)]) == 0
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert f"Heat: {lines['lines'][0]}." in parsed.text
    assert [a["alt"] for tag, a in parsed.tags if tag == "img"] == ["heat"]


def test_many_runs_show_the_newest_ones_with_pictures(add_run, tmp_path, capsys):
    for seed in range(5):
        fill(add_run("erm", unbiased=50.0, config={"seed": seed}), 40.0)
    path = tmp_path / "report.html"
    assert results.main(["report", "--out", str(path), "--store", str(tmp_path), "--newest", "2"]) == 0
    text = Parsed(path.read_text(encoding="utf-8")).text
    assert "5 runs, the newest 2 with curves and pictures." in text
    assert re.findall(r"\(run (\d)\)", text) == ["5", "4"]


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--out", "/dev/null/x.html"], "/dev/null/x.html: cannot be written"), (["seed=99"], "no runs")],
)
def test_what_cannot_be_is_answered_in_one_line(add_run, tmp_path, capsys, words, says):
    add_run("erm", unbiased=1.0)
    assert results.main(["report", *words, "--store", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


@pytest.mark.skipif(
    NODE is None or CHROMIUM is None or not (ROOT / "node_modules" / "playwright-core").is_dir(),
    reason="no browser here: Chromium, Node 20 and `npm ci`",
)
def test_in_a_browser(report, tmp_path):
    words = [str(NODE), str(Path(__file__).with_name("open.cjs")), str(CHROMIUM), str(report), str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["problems"], seen["requests"], seen["foreign"]) == ([], [], 0)
    assert HOSTILE in seen["text"]
    # On a phone nothing is wider than the screen but tables, which scroll on their own; nothing is too small to read.
    assert seen["wide"] <= 0 and seen["small"] >= 12
    assert len(seen["images"]) == 13 and all(width > 0 and 0 < shown <= 390 for width, shown in seen["images"])
    assert (tmp_path / "print.pdf").read_bytes().startswith(b"%PDF")
