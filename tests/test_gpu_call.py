"""The prepared call on a GPU machine: in miniature on the CPU, cut and gone on with; its record and its processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import cases, checks, folders, only_gpu, phases, timing, training
from benchmarks.gpu.record import FILE, Record
from benchmarks.gpu.sides import BAD_FORK, Side, concurrently, start
from benchmarks.gpu.table import render
from debias.config import NAMED_CONFIGS, resolve
from debias.stages.recipes import RECIPES, STAGES

ROOT = Path(__file__).resolve().parents[1]


def rows_of(out: Path) -> list[dict]:
    return list(Record(out, out, 0.0).rows()) if out.is_dir() else []


def alive(word: str) -> list[int]:
    """Processes with a word in their command line, forks included."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if word.encode() in content:
            found.append(int(path.parent.name))
    return found


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.recipe
def test_the_whole_call_cut_and_gone_on_with(processes, cache_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--small", "--device", "cpu", "--out", str(out), "--cache", str(cache_dir)]
    command = [sys.executable, "-m", "benchmarks.gpu", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    cut = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    wait_for(lambda: any(row["phase"] == "correct" for row in rows_of(out)) or cut.poll() is not None)
    cut.kill()
    assert cut.wait() == -signal.SIGKILL
    wait_for(lambda: not alive(str(out)), seconds=10)
    before = [(row["phase"], row["case"]) for row in rows_of(out) if row["done"]]
    assert ("machine", "machine") in before and ("speed", None) not in before

    # A line that was cut in the middle.
    with (out / FILE).open("a") as file:
        file.write('{"phase": "speed", "case": "bran')
    # The same in a process that has its imports behind it.
    again = processes.Process(target=gpu.main, args=(words,))
    again.start()
    again.join(300)
    assert again.exitcode == 0, (out / "log.txt").read_text()[-3000:]
    rows = rows_of(out)
    assert not [row for row in rows if "failed" in row]
    every = Counter((row["phase"], row["case"]) for row in rows if row["done"])
    assert {phase for phase, case in every if case is None} == set(gpu.NAMES) == set(phases.PHASES)
    assert set(every.values()) == {1}, every
    table = subprocess.run([*command[:3], "--table", str(out)], cwd=ROOT, capture_output=True, text=True, check=True)
    for phase in gpu.NAMES:
        assert f"### {phase}\n\ndone in" in table.stdout
    # The one test of metrics that needs a GPU: skipped, or passed where there is one.
    assert [row["tests_skipped"] + row["tests_passed"] for row in rows if "tests_passed" in row] == [1]
    ended = [row for row in rows if row["phase"] == "others" and row["case"]]
    assert all(0 <= row["result"] <= 100 and row["figures"] and row["seconds"] > 0 for row in ended)
    table1 = [row for row in rows if row["phase"] == "table1" and "skew" in row]
    assert len(table1) == 4 and {row["replicas"] for row in table1} == {2}


def test_a_record_goes_on_from_its_copy(tmp_path: Path) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    for folder in (out, work):
        folder.mkdir()
    Record(out, work, 0.0).note("speed", "branches", step_us=2.0)
    (out / FILE).unlink()
    assert Record(out, work, 0.0).finished("speed", "branches")
    assert not Record(out, work, 0.0).finished("speed")
    assert (out / FILE).read_text() == (work / FILE).read_text()


def test_a_failed_case_is_noted_and_tried_again(tmp_path: Path) -> None:
    record = Record(tmp_path, tmp_path, 0.0)

    def fails() -> dict:
        raise RuntimeError("an illegal memory access")

    assert not record.attempt("speed", "end", fails)
    assert "| end | not done, failed RuntimeError: an illegal memory access |" in render(record)
    assert record.attempt("speed", "end", lambda: {"step_us": 3.0})
    assert record.attempt("speed", "end", fails)
    assert "| end | step_us 3 |" in render(record)


def test_a_later_failure_does_not_hide_what_is_done(tmp_path: Path) -> None:
    record = Record(tmp_path, tmp_path, 0.0)
    record.note("others", "erm", result=50.0)
    record.note("others", "erm", done=False, failed="out of time")
    record.note("others", "end", done=False, failed="out of time", epochs={"end/model/unbiased": [1.0, 2.5]})
    found = render(record)
    assert "| erm | result 50 |" in found
    assert "end/model/unbiased 2.5 after 2 epochs" in found


def test_means_of_table_1_by_hand(tmp_path: Path) -> None:
    record = Record(tmp_path, tmp_path, 0.0)
    for seed, value in enumerate((1.0, 3.0)):
        figures = {"target/unbiased/oracle": value, "deep/unbiased/oracle": 9.0}
        record.note("table1", f"distill {seed}", stage="distill", skew=0.005, seed=seed, figures=figures)
    assert "| distill | 0.5 | target/unbiased/oracle | 2.00 ± 1.41 (2) |" in render(record)
    assert "deep" not in render(record)


def sleeps(seconds: float, status: int) -> int:
    """Prints, and then is busy until it is interrupted."""
    print("begun", flush=True)
    time.sleep(seconds)
    return status


def test_jobs_end_in_time_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests of the same process may have asked for a GPU.
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: False)
    jobs = [Side("quick", sleeps, (0.0, 3), tmp_path / "1"), Side("slow", sleeps, (60.0, 0), tmp_path / "2")]
    jobs.append(Side("late", sleeps, (60.0, 0), tmp_path / "3"))
    ended: list[tuple[str, int | None]] = []
    ticks: list[str] = []
    concurrently(
        jobs, 1, 2.5, lambda job, status, _: ended.append((job.case, status)), lambda job: ticks.append(job.case),
        every=0.2, grace=0.8,
    )  # fmt: skip
    assert ended == [("quick", 3), ("slow", None)]
    assert "slow" in ticks
    assert (tmp_path / "1").read_text() == "begun\n"
    # Interrupted as by Ctrl-C, so that it can end in order.
    assert "KeyboardInterrupt" in (tmp_path / "2").read_text()
    assert not (tmp_path / "3").exists()


def test_a_fork_after_cuda_was_touched_is_told_and_a_new_process_is_not_concerned(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    job = Side("one", int, ("7",), tmp_path / "log")
    for method, status in (("fork", BAD_FORK), ("spawn", 7)):
        process = start(job, method=method)
        process.join(60)
        assert process.exitcode == status


def test_epochs_so_far_of_a_run(tmp_path: Path) -> None:
    assert folders.epochs_of(tmp_path / "none") == {}
    for number, values in (("9", [1.0]), ("10", [1.0, 2.0])):
        (tmp_path / number).mkdir()
        metrics = {"end/model/unbiased": {"values": values, "steps": [1, 2]}, "end/loss": {"values": values}}
        (tmp_path / number / "metrics.json").write_text(json.dumps(metrics))
    assert folders.epochs_of(tmp_path) == {"end/model/unbiased": [1.0, 2.0]}
    (tmp_path / "10" / "metrics.json").write_text('{"end/model')
    assert folders.epochs_of(tmp_path) == {}


def test_every_trained_stage_of_a_recipe_is_timed() -> None:
    in_recipes = {stage for recipe in RECIPES.values() for stage in recipe.stages}
    assert set(cases.order()) == {name for name in in_recipes if "epochs" in STAGES[name].settings}
    assert cases.order()[:2] == ["branches", "distill"]
    for stage, changes in [*((stage, {}) for stage in cases.order()), *timing.NETWORKS]:
        assert cases.settings_of(stage, 1, changes, {"seed": 5, "unknown": 1})["seed"] == 5


def test_every_run_of_a_paper_is_a_command(configured) -> None:
    for paper in (*training.OTHERS, *training.SMALL):
        resolve(configured(*paper.words.split()))
    for method, data in checks.DATA.items():
        assert method in NAMED_CONFIGS["method"] and data in NAMED_CONFIGS["data set"]


def test_captured_and_eager_are_compared_where_there_is_a_choice() -> None:
    assert timing.ways(torch.device("cuda")) == [{"graph": "off"}, {"graph": "on"}]
    assert timing.ways(torch.device("cpu")) == [{}]
    assert timing.GRAPH in cases.settings_of("branches", 1, {}, {})


def test_the_largest_difference_of_two_results() -> None:
    one = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([True])}
    assert cases.difference(one, one) == 0
    assert cases.difference(one, one | {"a": torch.tensor([1.0, 2.5])}) == 0.5
    # A weight that is not a number is not agreement.
    assert not cases.difference(one, one | {"a": torch.tensor([1.0, torch.nan])}) < 1
    with pytest.raises(ValueError, match="other tensors"):
        cases.difference(one, {"a": one["a"]})


def test_files_with_tests_for_a_gpu_are_found() -> None:
    files = set(checks.gpu_tests())
    assert {"tests/training/test_sync.py", "tests/data/test_batches.py", "tests/test_metrics.py"} <= files
    assert "tests/data/sources/test_digits.py" not in files


def test_tests_for_a_gpu_are_known_by_name_and_by_reason(request: pytest.FixtureRequest) -> None:
    def item(name: str, *reasons: str) -> pytest.Item:
        made = pytest.Function.from_parent(request.node.parent, name=name, callobj=lambda: None)
        for reason in reasons:
            made.add_marker(pytest.mark.skipif(False, reason=reason))
        return made

    kept = item("test_in_a_step[branches-cuda]"), item("test_numbers_on_a_gpu"), item("test_matrix", "needs a CUDA GPU")
    items = [*kept, item("test_names"), item("test_real", "DATA_DIR has no MNIST")]
    only_gpu.pytest_collection_modifyitems(request.config, items)
    assert items == list(kept)


def test_faults_of_the_person(tmp_path, capsys) -> None:
    for words in (["--table", str(tmp_path)], ["--out", str(tmp_path), "--phase", "sped"], []):
        with pytest.raises(SystemExit) as refusal:
            gpu.main(words)
        assert refusal.value.code == 2
    assert "there is no figures.jsonl" in capsys.readouterr().err
