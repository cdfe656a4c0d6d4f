"""The README's first command, in its quick form."""

import subprocess
from pathlib import Path

import pytest

from debias.tracking.folders import read_runs

ROOT = Path(__file__).resolve().parent.parent
SMALL = (
    "limit=600", "pretrain.epochs=2", "branches.epochs=1", "distill.epochs=1", "threads=1", "progress=False",
    "pictures=False",
)  # fmt: skip


@pytest.mark.skipif(
    not (ROOT / ".venv" / "installed").exists(), reason="the environment of scripts/common.sh is not set up here"
)
def test_quickstart_trains_both_methods_and_shows_the_gain(cache_dir: Path, tmp_path: Path) -> None:
    store = tmp_path / "runs"
    done = subprocess.run(
        ["bash", "scripts/quickstart.sh", *SMALL, f"store={store}", f"cache_dir={cache_dir}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records = list(read_runs(store))
    assert [(record.method, record.status) for record in records] == [("erm", "COMPLETED"), ("denetdm", "COMPLETED")]
    gain = records[1].summary["target/unbiased/last"] - records[0].summary["model/unbiased/last"]
    last = done.stdout[done.stdout.rindex("method") :]
    assert f"({gain:+.1f})" in last
    assert done.stdout.splitlines()[-2:] == [f"erm: {store}/1", f"denetdm: {store}/2"]
