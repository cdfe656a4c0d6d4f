"""The benchmark of threads on a busy machine measures what it says; times are never compared with anything."""

import json

import pytest

from benchmarks import threads
from debias import waiting

SMALL = ("--rounds", "1", "--seconds", "0.01", "--batch", "8", "--threads", "1", "--others", "0", "1")


def test_every_measurement_is_in_the_table_and_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert threads.main([*SMALL, "--policy", "ours", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["stage"], found["batch"], found["rounds"], found["ours"]) == ("branches", 8, 1, waiting.POLICY)
    assert [(row["policy"], row["threads"], row["others"]) for row in found["rows"]] == [("ours", 1, 0), ("ours", 1, 1)]
    assert all(row["steps_per_second"]["least"] > 0 for row in found["rows"])
    head, names, *rows = threads.table(found, found["rows"]).splitlines()
    assert head.startswith("branches, batches of 8; ")
    assert names.split()[:4] == ["policy", "threads", "others", "steps/s"]
    assert [row.split()[:3] for row in rows] == [["ours", "1", "0"], ["ours", "1", "1"]]


def test_shares_are_of_the_same_round() -> None:
    found = {
        ("torch", 1, 0): [2.0, 4.0, 8.0],
        ("torch", 2, 0): [4.0, 2.0, 8.0],
        ("ours", 2, 0): [6.0, 6.0, 6.0],
    }
    one, two, ours = threads.describe(found, "torch")
    assert (one["of_first"], one["of_one_thread"]) == (1.0, 1.0)
    assert two["steps_per_second"] == {"median": 4.0, "least": 2.0, "most": 8.0}
    assert two["of_one_thread"] == 1.0  # of 2, .5 and 1
    assert (ours["of_first"], ours["of_one_thread"]) == (1.5, None)


def test_a_policy_is_the_only_one_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")

    def chosen(policy: str) -> dict[str, str]:
        return {name: value for name, value in threads.environment(policy).items() if name in waiting.VARIABLES}

    assert chosen("ours") == {}
    assert chosen("torch") == {"GOMP_SPINCOUNT": "300000"}
    assert chosen("OMP_WAIT_POLICY=PASSIVE") == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_busy_processes_end_with_what_they_are_for() -> None:
    with pytest.raises(RuntimeError, match="measured"), threads.busy(2) as started:
        assert [other.poll() for other in started] == [None, None]
        raise RuntimeError("measured")
    assert [other.poll() for other in started] == [-9, -9]


def test_a_process_that_ends_too_early_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")  # with which no Python starts
    assert threads.main([*SMALL, "--policy", "torch"]) == 1
    assert capsys.readouterr().err == "error: torch: the process that was to be measured ended\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["--rounds", "0"],
        ["--threads", "0"],
        ["--others", "-1"],
        ["--seconds", "0"],
        ["--policy", "KIND=1"],
        ["--network", "lenet"],
        ["--stage", "pretrain", "--network", "no"],
    ],
    ids=" ".join,
)
def test_impossible_measurements_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        threads.main(wrong)
    assert refusal.value.code == 2
    assert "error" in capsys.readouterr().err
