"""What a run leaves behind, and what becomes of one that is repeated, fails or is broken off."""

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from debias import main
from debias.commands.leavings import accuracy_series
from debias.data.batches import Batches
from debias.stages.pretrain import Pretrain
from debias.stages.recipes import STAGES
from debias.sweeps.drive import result_of
from debias.tracking.curves import final_curves
from debias.tracking.folders import read_runs
from debias.tracking.results.listing import last_figures
from debias.tracking.results.records import read_records, write_records
from debias.tracking.results.summary import final_figures
from debias.training.loop import Loop
from tests.pipeline import TINY, same, short

PNG = b"\x89PNG\r\n\x1a\n"


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(runs, cache_dir):
    """The folder of a complete run of DeNetDM, pictures and all; its standard output is whatever it was."""
    words = [*TINY, f"cache_dir={cache_dir}", f"store={runs}", *short("denetdm"), "valid_fraction=0.2", "progress=True"]
    words.append("pictures=True")
    assert main.main(["with", *words]) == 0
    return runs / "1"


def test_the_result_is_the_unbiased_accuracy_at_the_last_epoch(finished):
    run, info = read(finished, "run.json"), read(finished, "info.json")
    assert run["status"] == "COMPLETED"
    assert type(run["result"]) is float
    assert run["result"] == info["summary"]["target/unbiased/last"]
    metrics = read(finished, "metrics.json")
    assert run["result"] == metrics["distill/target/unbiased"]["values"][-1]


def test_without_pictures_numbers_and_tables_are_the_same(command, tmp_path):
    words = short("jtt", 1)
    assert command(*words, "pictures=True") == 0 and command(*words, "pictures=False") == 0
    full, bare = (tmp_path / "runs" / number for number in "12")
    left = {path.name for path in full.iterdir()}
    assert {path.name for path in bare.iterdir()} == {name for name in left if not name.endswith(".png")}
    assert {"suspects.csv", "matrices.json", "weights.safetensors"} < {path.name for path in bare.iterdir()} < left
    for name in ("matrices.json", "suspects.csv"):
        assert (full / name).read_bytes() == (bare / name).read_bytes()
    assert read(full, "info.json")["summary"] == read(bare, "info.json")["summary"]


def test_the_summary(finished):
    summary = read(finished, "info.json")["summary"]
    assert all(re.fullmatch(r"\w+/\w+/\w+", name) and type(value) is float for name, value in summary.items())
    for read_out in ("poe", "shallow", "deep", "target"):
        for figure in ("unbiased", "average", "aligned", "conflicting", "worst"):
            for selection in ("last", "mean", "valid", "oracle"):
                assert 0 <= summary[f"{read_out}/{figure}/{selection}"] <= 100
    stages = read(finished, "info.json")["stages"]
    assert set(stages) == {"branches", "distill"}
    for about in stages.values():
        assert about["reused"] is False and about["needs_bias_labels"] is False and about["seconds"] > 0


def test_whether_the_run_is_repeatable_is_recorded(finished, runs, cache_dir, monkeypatch):
    info = read(finished, "info.json")
    assert info["repeatable"] is True
    assert all(about["nondeterministic"] == [] for about in info["stages"].values())

    fitted = Loop.fitted

    def noted(loop, stopped=False):
        loop.nondeterministic = ["cumsum_cuda_kernel"]
        return fitted(loop, stopped)

    monkeypatch.setattr(Loop, "fitted", noted)
    words = [*TINY, f"cache_dir={cache_dir}", f"store={runs / 'not'}", *short("erm", 1)]
    assert main.main(["with", *words]) == 0
    info = read(runs / "not" / "1", "info.json")
    assert info["repeatable"] is False
    assert info["stages"]["pretrain"]["nondeterministic"] == ["cumsum_cuda_kernel"]


def test_metrics_have_one_value_an_epoch(finished):
    metrics = read(finished, "metrics.json")
    assert all(metric["steps"] == [1, 2] and len(metric["values"]) == 2 for metric in metrics.values())
    names = set(metrics)
    assert {"branches/loss", "branches/shallow/conflicting", "distill/target/unbiased", "distill/seconds"} <= names
    assert "distill/valid/target/average" in names
    assert not any("valid" in name and "average" not in name for name in names)


def test_the_matrices_are_those_of_the_figures(finished):
    matrices, summary = read(finished, "matrices.json"), read(finished, "info.json")["summary"]
    hits, counts = (torch.tensor(rows) for rows in matrices["distill"]["last"]["target"])
    assert hits.shape == (10, 10) and counts.sum() == 100
    filled = counts > 0
    shares = hits[filled] / counts[filled]
    assert 100 * float(shares.mean()) == pytest.approx(summary["target/unbiased/last"], abs=1e-4)
    assert 100 * int(hits.sum()) / 100 == pytest.approx(summary["target/average/last"])


def test_pictures_and_weights(finished):
    pictures = {path.name for path in finished.glob("*.png")}
    assert {"examples.png", "distill-unbiased.png", "branches-conflicting.png"} <= pictures
    for kind in ("matrix", "confusion"):
        assert {f"{kind}-branches-{name}.png" for name in ("poe", "shallow", "deep")} <= pictures
    assert all((finished / name).read_bytes().startswith(PNG) for name in pictures)
    weights = load_file(finished / "weights.safetensors")
    assert {name.split(".")[0] for name in weights} == {"branches", "model"}
    assert set(read(finished, "run.json")["artifacts"]) == pictures | {"weights.safetensors", "matrices.json"}


def test_accuracy_on_every_set_by_epoch():
    history = [
        {
            "epoch": 1.0,
            "train/accuracy": 30.0,
            "model/average": 20.0,
            "model/unbiased": 19.0,
            "model@grey/average": 9.0,
        },
        {"epoch": 2.0, "train/accuracy": 50.0, "model/average": 40.0, "valid/model/average": 30.0},
    ]
    assert accuracy_series(history) == {
        "training": [(1.0, 30.0), (2.0, 50.0)],
        "model": [(1.0, 20.0), (2.0, 40.0)],
        "valid model": [(2.0, 30.0)],
    }
    assert set(accuracy_series(history[:1])) == {"training", "model", "model@grey"}
    assert accuracy_series([{"epoch": 1.0, "model/average": 20.0}]) == {}


def test_the_settings_are_recorded(finished, configured):
    recorded = read(finished, "config.json")
    assert set(recorded) == set(configured()) | {"seed"}
    assert recorded["distill"]["epochs"] == 2 and recorded["skew"] == 0.2 and recorded["seed"] == 1


def test_the_captured_output_is_the_table_without_progress_bars(finished):
    text = (finished / "cout.txt").read_text(encoding="utf-8")
    assert "target" in text and "unbiased" in text
    assert "epoch/s" not in text and "%|" not in text and "\r" not in text
    assert len(text) < 10_000


@pytest.mark.parametrize(("name", "more"), [("evaluate", []), (None, ["train=False"])])
def test_the_weights_of_a_run_evaluate_to_its_figures(finished, command, tmp_path, name, more):
    # `reweighted` goes by the groups of the training images, so by which are held out.
    words = (f"checkpoint={finished / 'weights.safetensors'}", "valid_fraction=0.2", *more)
    assert command(*words, name=name) == 0
    run, info = read(tmp_path / "runs" / "1", "run.json"), read(tmp_path / "runs" / "1", "info.json")
    trained = read(finished, "info.json")["summary"]
    assert run["result"] == trained["target/unbiased/last"]
    assert len(info["summary"]) == 4 * 6  # figures of groups, and the re-weighted one
    for figure, value in info["summary"].items():
        assert value == trained[figure.replace("/given", "/last")]


def test_the_weights_are_those_of_the_last_epoch(command, tmp_path, monkeypatch):
    """Never those of an epoch that was chosen on the test set: here all others are zero."""
    train = Pretrain.run

    def only_last(stage, inputs, ctx):
        result = train(stage, inputs, ctx)
        states = result["model"].states
        zero = {name: torch.zeros_like(value) for name, value in states["last"].items()}
        model = replace(result["model"], states=dict.fromkeys(states, zero) | {"last": states["last"]})
        return {**result, "model": model}

    monkeypatch.setattr(Pretrain, "run", only_last)
    assert command(*short("erm", 1)) == 0
    weights = load_file(tmp_path / "runs" / "1" / "weights.safetensors")
    assert weights and all(bool(value.any()) for value in weights.values())


def test_the_same_command_again_computes_nothing(finished, runs, command, monkeypatch, capfd):
    for stage in ("branches", "distill"):
        monkeypatch.setattr(STAGES[stage], "run", None)
    assert command(*short("denetdm"), "valid_fraction=0.2", store=runs) == 0
    assert "reused" in capfd.readouterr().err
    again = max(runs.glob("[0-9]*"), key=lambda path: int(path.name))
    assert all(about["reused"] for about in read(again, "info.json")["stages"].values())
    assert read(again, "info.json")["summary"] == read(finished, "info.json")["summary"]
    assert read(again, "run.json")["result"] == read(finished, "run.json")["result"]
    one, other = read(again, "metrics.json"), read(finished, "metrics.json")
    assert {name: (metric["steps"], metric["values"]) for name, metric in one.items()} == {
        name: (metric["steps"], metric["values"]) for name, metric in other.items()
    }
    same(load_file(again / "weights.safetensors"), load_file(finished / "weights.safetensors"))


def test_a_stage_as_a_command(finished, runs, command):
    assert command(*short("denetdm"), "valid_fraction=0.2", name="branches", store=runs) == 0
    last = max(runs.glob("[0-9]*"), key=lambda path: int(path.name))
    assert read(last, "run.json")["command"] == "branches"
    assert set(read(last, "info.json")["stages"]) == {"branches"}
    assert read(last, "run.json")["result"] == read(finished, "info.json")["summary"]["shallow/unbiased/last"]


def test_a_list_of_stages_as_a_method(command, tmp_path):
    words = [word for word in short("erm", 1) if not word.startswith("method")]
    assert command(*words, "method=[pretrain, mine_wrong]") == 0
    assert set(read(tmp_path / "runs" / "1", "info.json")["stages"]) == {"pretrain", "mine_wrong"}


def test_a_stage_that_fails(command, tmp_path, monkeypatch):
    def broken(stage, inputs, ctx):
        raise RuntimeError("an error of the program")

    monkeypatch.setattr(Pretrain, "run", broken)
    with pytest.raises(RuntimeError, match="an error of the program"):
        command(*short("erm"))
    run = read(tmp_path / "runs" / "1", "run.json")
    assert run["status"] == "FAILED" and run["result"] is None
    assert "an error of the program" in "".join(run["fail_trace"])


def test_interrupted_from_the_keyboard_and_gone_on(command, tmp_path, monkeypatch, capfd):
    words = [*short("erm", 4), "checkpoint_seconds=0"]
    epoch, passes = Batches.epoch, []

    def interrupted(self, generator=None):
        passes.append(self.shuffle)
        if sum(passes) == 3 and self.shuffle:
            signal.raise_signal(signal.SIGINT)
        yield from epoch(self, generator)

    # A process started in the background of a shell script ignores the signal from the start.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Batches, "epoch", interrupted)
            assert command(*words) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    err = capfd.readouterr().err
    assert err.splitlines()[-1] == "interrupted; repeat the command to continue where it stopped"
    assert "Traceback" not in err and "Aborted" not in err
    assert read(tmp_path / "runs" / "1", "run.json")["status"] == "INTERRUPTED"

    assert command(*words) == 0
    assert "pretrain: resuming after epoch 2 of 4" in capfd.readouterr().err
    assert command(*words, store=tmp_path / "undisturbed") == 0
    resumed, whole = (read(tmp_path / path, "info.json")["summary"] for path in ("runs/2", "undisturbed/1"))
    assert resumed == whole
    assert read(tmp_path / "runs" / "2", "metrics.json")["pretrain/loss"]["steps"] == [1, 2, 3, 4]


def test_the_result_is_of_the_model_that_is_saved_whatever_its_read_out_is_called(runs, cache_dir):
    """`finetune` reports `target`, and `end` after it `model`, as `pretrain` before it did."""
    words = short("[pretrain,mine_wrong,finetune,true_bias,end]", 1)
    assert main.main(["with", *TINY, f"cache_dir={cache_dir}", f"store={runs / 'last'}", *words]) == 0
    folder = runs / "last" / "1"
    run, info, metrics = (read(folder, f"{name}.json") for name in ("run", "info", "metrics"))
    assert info["final"] == {"stage": "end", "read_out": "model"}
    of = {
        stage: metrics[f"{stage}/unbiased"]["values"][-1]
        for stage in ("pretrain/model", "finetune/target", "end/model")
    }
    assert len(set(of.values())) == 3, "each has a figure of its own"
    assert run["result"] == info["summary"]["model/unbiased/last"] == of["end/model"]
    assert info["summary"]["target/unbiased/last"] == of["finetune/target"]
    # The earlier one of the same name is not overwritten.
    assert info["summary"]["pretrain.model/unbiased/last"] == of["pretrain/model"]
    # Everybody who reads the record says the same.
    (record,) = read_runs(runs / "last")
    assert record.finished and record.final_read_out == "model" and record.result == run["result"]
    assert result_of(record) == last_figures(record)["unbiased"] == run["result"]
    assert final_figures(record, "unbiased")["last"] == run["result"]
    assert dict(final_curves(metrics, info["final"]))["unbiased"] == metrics["end/model/unbiased"]
    # Also by way of a file of records.
    write_records([record], runs / "records.csv")
    (row,) = read_records(runs / "records.csv")
    assert row.final_read_out == "model" and row.result == pytest.approx(run["result"], abs=1e-3)


def test_a_run_with_a_biased_and_a_final_network_shows_where_they_look(command, tmp_path):
    words = [*short("gce_balanced", 1), "mine_gce.network=end_cnn_small", "bias_balanced.network=resnet20"]
    assert command(*words, "pictures=True") == 0
    folder = tmp_path / "runs" / "1"
    lines = read(folder, "info.json")["heat"]["lines"]
    assert "(biased: Grad-CAM, final: class activation map)" in lines[1]
    assert lines[:1] == ["no shortcut with a place is named, so no share of heat is given"]
    assert (folder / "heat.png").is_file()
    # Without maps, a line of each network and no picture; without pictures, nothing is looked at.
    assert command(*short("gce_balanced", 1), "pictures=True") == 0 and command(*words, "pictures=False") == 0
    lines = read(tmp_path / "runs" / "2", "info.json")["heat"]["lines"]
    assert lines == [f"nothing is drawn of {one}: its network (mlp3) has no maps" for one in ("biased", "final")]
    assert not (tmp_path / "runs" / "2" / "heat.png").exists()
    assert "heat" not in read(tmp_path / "runs" / "3", "info.json")
