"""Disks that are full from any file on, or have no room for one file: one line, nothing half-written, and the same
command again, with room, gives what it gives without."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from debias import main
from debias.training.code import ROOT
from tests.killing import fill_disks, record_of, results_of
from tests.photos import class_folders
from tests.pipeline import same, short

PHOTOS = ["own_images", "image_size=16", "features=none", "device=cpu", "threads=1", "progress=False"]
PLACES = ["store={place}/runs", "cache_dir={place}/cache"]
# Tried for room, or written without a byte: pictures of these tests, and output before there is any.
EMPTY = re.compile(r"runs/stages#|\.png\.partial#|cout\.txt#1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("photos"), each=10)


@pytest.fixture(scope="module")
def weights(photos, tmp_path_factory):
    store = tmp_path_factory.mktemp("trained")
    words = [f"data_dir={photos}", *short("erm"), f"store={store}", f"cache_dir={store}/cache", "pictures=False"]
    assert main.main(["with", *PHOTOS, *words]) == 0
    return store / "1" / "weights.safetensors"


@pytest.fixture
def full(processes, tmp_path):
    """full(words, every, once) -> the folder of a run with room; what each of the others came to, and its folder."""

    def run(words, every, once):
        output, at = tmp_path / "found.json", tmp_path / "at"
        process = processes.Process(
            target=fill_disks, args=([*words, *PLACES], str(at), str(output), every, once), daemon=True
        )
        process.start()
        process.join(600)
        assert process.exitcode == 0
        whole, *found = json.loads(output.read_text())
        assert whole["first"]["status"] == 0, whole["first"]["said"]
        for number, one in enumerate(found):
            check(**one, once=once)
            yield at / "whole", at / str(number)
        assert len(found) >= 3

    return run


def check(full_at, first, again, once):
    """A command met a disk that is full from a file on, and then one with room."""
    lines = [line for line in first["said"].splitlines() if line.startswith("error: ")]
    assert "Traceback" not in first["said"] and not first["parts"], full_at
    if first["status"] == 0:
        assert once and EMPTY.search(full_at) and first["runs"] == ["COMPLETED"], full_at
    else:
        assert first["status"] == 2 and len(lines) == 1, (full_at, first["said"])
        # Where there is room to say so, the run has failed; without any it seems to run until it is silent for long.
        wanted = ["FAILED"] if once else ["RUNNING"]
        assert first["runs"] in ([], wanted), full_at
    assert (again["status"], again["parts"], again["runs"][-1]) == (0, [], "COMPLETED"), (full_at, again["said"])


MODES = pytest.mark.parametrize("once", [False, True], ids=["from there on", "for one file"])


@pytest.mark.recipe
@MODES
def test_training(full, photos, once):
    words = ["with", *PHOTOS, f"data_dir={photos}", *short("jtt"), "checkpoint_seconds=0"]
    # Every fifth of the files, others for each of both.
    for whole, other in full(words, 5, once):
        found, wanted = results_of(other / "runs"), results_of(whole / "runs")
        same(found, wanted)
        same(record_of(other / "runs"), record_of(whole / "runs"))


@pytest.mark.recipe
@MODES
@pytest.mark.parametrize("command", ["predict", "export"])
def test_files_that_are_asked_for(full, photos, weights, command, once):
    """Tables and models in a folder of the user's: whole, or those that were there."""
    words = [command, "with", f"checkpoint={weights}", f"folder={photos}", "output={place}/out", "threads=1"]
    words = words if command == "predict" else [word for word in words if not word.startswith("folder")]
    for whole, other in full(words, 4 if command == "predict" else 9, once):
        names = {path.name for path in (whole / "out").iterdir()}
        assert {path.name for path in (other / "out").iterdir()} == names
        same_table = (whole / "out" / "predictions.csv", other / "out" / "predictions.csv")
        assert command == "export" or same_table[0].read_bytes() == same_table[1].read_bytes()


# Mounts a disk of half the room that a run needs, which only these processes see, and gives it room afterwards.
ON_A_SMALL_DISK = """
set -e
place=$1 size=$2 kept=$3
shift 3
mkdir -p "$place"
mount -t tmpfs -o "size=$size" tmpfs "$place"
status=0
"$@" || status=$?
df -k --output=avail "$place" | tail -n 1
mount -o "remount,size=1g" "$place"
"$@"
cp -r "$place/runs" "$kept"
echo "first status $status"
"""


@pytest.mark.recipe
def test_a_real_disk_that_is_too_small(photos, tmp_path):
    """Not a limit on files but a full file system, mounted for the purpose; then the same disk with room."""
    apart = next((way for way in (["-m"], ["-rm"]) if _may(["unshare", *way, "true"])), None)
    if apart is None:
        pytest.skip("neither root nor user namespaces: no disk can be mounted")
    small, whole, kept = tmp_path / "small", tmp_path / "whole", tmp_path / "kept"
    words = [
        sys.executable,
        str(ROOT / "main.py"),
        "with",
        *PHOTOS,
        f"data_dir={photos}",
        *short("erm"),
        "pictures=False",
    ]

    def on(place):
        return [*words, "pictures=False", f"store={place}/runs", f"cache_dir={place}/cache"]

    subprocess.run(on(whole), check=True, capture_output=True, cwd=tmp_path)
    needed = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file())
    done = subprocess.run(
        ["unshare", *apart, "sh", "-c", ON_A_SMALL_DISK, "sh", str(small), str(needed // 2), str(kept), *on(small)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("first status 2"), done.stdout
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(small) in line and re.search("disk full|No space left", line) and "Traceback" not in done.stderr
    same(results_of(kept), results_of(whole / "runs"))


def _may(words):
    return (
        shutil.which(words[0]) is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )
