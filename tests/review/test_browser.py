"""The page in a real browser, by keys alone: marks survive a reload, and the server's being killed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.review.test_marks import marked, start

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(
    NODE is None or CHROMIUM is None or not (ROOT / "node_modules" / "playwright-core").is_dir(),
    reason="no browser here: Chromium, Node 20 and `npm ci`",
)
def test_marks_by_keys(mined, tmp_path):
    process, address = start(mined)
    try:
        words = [str(NODE), str(Path(__file__).with_name("open.cjs")), str(CHROMIUM), address, str(tmp_path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    finally:
        process.kill()
        process.communicate()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["problems"], seen["foreign"], seen["nameless"]) == ([], [], [])
    ids = [number for number, _, _ in seen["before"]]
    assert (
        len(ids) > 20
        and not any(mark for _, mark, _ in seen["before"])
        and all(width > 0 for width in seen["pictures"])
    )
    # By rank: the suspects of falling scores first.
    assert ids[:5] == [0, 10, 20, 30, 40]
    wanted = ["conflicting", "", "fine", "unsure", "drop", "wrong label"]
    for name in ("marked", "reloaded"):
        assert [mark for _, mark, _ in seen[name]][:6] == wanted and seen[name] == seen["marked"]
    assert seen["marked"][5][2] == "→ cow"
    # Undone: the image whose mark was taken back is chosen, also after the reload.
    assert seen["chosen"] == seen["chosenAgain"] == 20
    assert seen["progress"] == seen["progressAgain"] == "marked 5 of 64 shown"
    assert seen["filtered"] == ["fine", [[20, "fine", "fine"]], "marked 1 of 1 shown (5 of 64 in all)"]
    assert [number for number, _, _ in seen["left"]] == [10]
    assert seen["high"] == 5 and set(seen["cows"]) == {"cow"} and len(seen["cows"]) == 32
    assert seen["near"][:2] == [64, 0] and "coarse pixels" in seen["near"][2]
    assert seen["map"][:2] == [True, True] and "camel" in seen["map"][2]
    assert seen["last"][1] == "drop" and seen["order"] == "rank" and seen["help"] is True
    # In the list of keys a key marks nothing.
    assert seen["afterHelp"] == [False, 6] and seen["wide"] <= 0
    # The server was killed: another one knows all of it.
    process, address = start(mined)
    found = marked(address)
    process.kill()
    process.communicate()
    assert found == {
        0: "conflicting",
        20: "fine",
        30: "unsure",
        40: "drop",
        ids[5]: "wrong label",
        seen["last"][0]: "drop",
    }
