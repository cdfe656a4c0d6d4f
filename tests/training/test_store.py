"""What is stored of stages: whole or not at all, used only when sound, by one process at a time."""

import hashlib
import json
import os
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from debias.digests import digest_of_file
from debias.errors import UserError
from debias.stages.pretrain import Pretrain
from debias.training.artifacts import Checkpoint, ConflictScore, Mask, Report, Selected, TrainedModel, to_plain
from debias.training.store import StageFolder, Store
from tests.pipeline import TINY, run_command, same, short

STATE = {"weight": torch.arange(6.0).view(2, 3)}
RESULT = {
    "model": TrainedModel({"backbone": "mlp3", "shape": [3, 28, 28]}, {"last": STATE}, "model", "pretrain"),
    "report": Report(history=[{"loss": 0.5}], summary={"model/average/last": 50.0}, matrices={"last": {}}),
}


def checkpoint(epochs: int) -> Checkpoint:
    """After so many epochs."""
    chosen = Selected(epochs, STATE, {"model": {"average": 50.0}}, {}, {})
    history = [{"epoch": float(number)} for number in range(epochs)]
    return Checkpoint(STATE, [{"state": {0: STATE}}], {}, history, {"last": chosen}, {})


@pytest.fixture
def folder(tmp_path):
    return Store(tmp_path / "stages").folder("pretrain", "0123")


def test_a_result_comes_back_as_it_was(folder):
    assert folder.load_result() is None
    folder.save_checkpoint(checkpoint(3))
    folder.save_result(RESULT, {"seed": 1})
    same(folder.load_result(), RESULT)
    assert folder.load_checkpoint() is None
    assert sorted(path.name for path in folder.path.iterdir()) == ["done.json", "result.pt"]
    folder.clear()
    assert folder.load_result() is None


def test_a_result_without_its_mark_does_not_count(folder):
    folder.save_result(RESULT, {})
    (folder.path / "done.json").unlink()
    assert folder.load_result() is None


def test_the_last_checkpoint_counts(folder):
    folder.save_checkpoint(checkpoint(1))
    folder.save_checkpoint(checkpoint(2))
    same(folder.load_checkpoint(), checkpoint(2))
    assert folder.load_result() is None


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "half"])
@pytest.mark.parametrize("name", ["result.pt", "checkpoint.pt"])
def test_a_damaged_file_is_not_used_and_says_so(folder, name, content):
    folder.save_result(RESULT, {})
    folder.save_checkpoint(checkpoint(1))
    path = folder.path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content is None else content)
    with pytest.warns(UserWarning, match=f"{name} (cannot be read|is lost or damaged)"):
        assert (folder.load_result() if name == "result.pt" else folder.load_checkpoint()) is None


def test_a_lost_result_is_not_used(folder):
    folder.save_result(RESULT, {})
    (folder.path / "result.pt").unlink()
    with pytest.warns(UserWarning, match=r"result\.pt is lost or damaged"):
        assert folder.load_result() is None


def test_nothing_in_a_stored_file_is_executed(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    folder.save_result(RESULT, {})
    trap = folder.path / "result.pt"
    torch.save({"report": Trap()}, trap)
    torch.save({"report": Trap()}, folder.path / "checkpoint.pt")
    # Even when the digest has been made to fit.
    about = {"sha256": hashlib.sha256(trap.read_bytes()).hexdigest()}
    (folder.path / "done.json").write_text(json.dumps(about), encoding="utf-8")
    for load in (folder.load_result, folder.load_checkpoint):
        with pytest.warns(UserWarning, match="cannot be read"):
            assert load() is None
    assert not (tmp_path / "trapped").exists()


def other_shapes():
    """Stored results of which each differs from what an artifact is today."""
    plain = to_plain(RESULT["model"])
    yield "a field less", {"model": {name: value for name, value in plain.items() if name != "initial"}}
    yield "a field more", {"model": {**plain, "colour": "red"}}
    yield "another type", {"model": {**plain, "read_out": 3}}
    yield "no kind", {"model": {name: value for name, value in plain.items() if name != "artifact"}}
    yield "unknown kind", {"model": {**plain, "artifact": "Painting"}}
    yield "no artifact", {"model": torch.zeros(3)}
    yield "no names", [plain]


@pytest.mark.parametrize("stored", [pytest.param(stored, id=name) for name, stored in other_shapes()])
def test_a_result_of_another_shape_is_not_used_and_says_so(folder, stored):
    folder.save_result(RESULT, {})
    path = folder.path / "result.pt"
    torch.save(stored, path)
    about = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (folder.path / "done.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"result\.pt cannot be read .* and is not used"):
        assert folder.load_result() is None


def test_a_checkpoint_of_another_shape_is_not_used_and_says_so(folder):
    plain = to_plain(checkpoint(2))
    figures = plain["selected"]["last"].pop("figures")
    assert figures
    for stored in (plain, to_plain(RESULT["report"]), {"epoch": 2}):
        torch.save(stored, folder.path / "checkpoint.pt")
        with pytest.warns(UserWarning, match=r"checkpoint\.pt cannot be read .* and is not used"):
            assert folder.load_checkpoint() is None


@pytest.mark.recipe
def test_a_stage_whose_stored_artifact_has_another_shape_is_computed_again(run_tiny, tmp_path):
    first = run_tiny(*short("erm"))
    path = tmp_path / "stages" / f"pretrain-{first.stages['pretrain'].key}"
    stored = torch.load(path / "result.pt", weights_only=True)
    del stored["model"]["initial"]
    torch.save(stored, path / "result.pt")
    about = {"sha256": hashlib.sha256((path / "result.pt").read_bytes()).hexdigest()}
    (path / "done.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.warns(UserWarning, match="cannot be read .*ValueError.* is not used"):
        second = run_tiny(*short("erm"))
    assert not second.stages["pretrain"].reused
    same(second.artifacts, first.artifacts)


def test_what_is_no_artifact_is_not_stored(folder):
    with pytest.raises(TypeError, match="dict is not an artifact"):
        folder.save_result({"model": {"weights": torch.zeros(3)}}, {})
    assert folder.load_result() is None


def test_what_a_killed_process_left_half_written_is_ignored(folder):
    (folder.path / ".result.pt.4711").write_bytes(b"half")
    (folder.path / ".checkpoint.pt.4711").write_bytes(b"half")
    assert folder.load_result() is None
    assert folder.load_checkpoint() is None
    folder.save_result(RESULT, {})
    same(folder.load_result(), RESULT)


def test_a_failed_write_keeps_what_was_there(folder, monkeypatch):
    folder.save_checkpoint(checkpoint(1))

    def full_disk(value, handle):
        handle.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match=r"checkpoint\.pt cannot be written \(No space left on device\)"):
        folder.save_checkpoint(checkpoint(2))
    same(folder.load_checkpoint(), checkpoint(1))
    assert [path.name for path in folder.path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_store_that_cannot_be_written(tmp_path, below):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"store=.*file.*: cannot be written to \(.+\); give another folder"):
        Store(tmp_path / "file" / below)


def test_a_single_flipped_bit_is_noticed(folder):
    folder.save_result({"mask": Mask({"weights": torch.zeros(1000)})}, {})
    path = folder.path / "result.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="is lost or damaged"):
        assert folder.load_result() is None


@pytest.mark.parametrize("damage", [b"", b"garbage", None], ids=["empty", "garbage", "half"])
def test_a_damaged_stage_is_computed_again(run_tiny, tmp_path, damage):
    first = run_tiny(*short("erm"))
    path = tmp_path / "stages" / f"pretrain-{first.stages['pretrain'].key}" / "result.pt"
    path.write_bytes(path.read_bytes()[:1000] if damage is None else damage)
    with pytest.warns(UserWarning, match="is not used"):
        second = run_tiny(*short("erm"))
    assert not second.stages["pretrain"].reused
    same(second.artifacts, first.artifacts)
    assert run_tiny(*short("erm")).stages["pretrain"].reused


def test_of_two_processes_on_one_stage_the_second_waits_and_reuses(
    processes, run_tiny, cache_dir, tmp_path, monkeypatch
):
    output = tmp_path / "stderr.txt"
    words = ["pretrain", "with", *TINY, f"cache_dir={cache_dir}", f"store={tmp_path / 'runs'}", *short("erm")]
    other = processes.Process(target=run_command, args=(words, str(output)))
    train = Pretrain.run

    def slow(stage, inputs, ctx):
        other.start()
        deadline = time.monotonic() + 120
        while "waiting for it" not in (output.read_text() if output.exists() else ""):
            assert time.monotonic() < deadline and other.exitcode is None, "the other process did not wait"
            time.sleep(0.02)
        return train(stage, inputs, ctx)

    monkeypatch.setattr(Pretrain, "run", slow)
    mine = run_tiny(*short("erm"), store=tmp_path / "runs" / "stages")
    other.join(120)
    assert other.exitcode == 0
    assert not mine.stages["pretrain"].reused
    assert "pretrain: finished before, reused" in output.read_text()


def test_a_lock_of_a_dead_process_does_not_stay(folder):
    (folder.path / "lock").write_text("4711")
    said: list[str] = []
    with folder.locked(said.append):
        pass
    assert said == []


def test_store_folders_of_stages_are_apart(tmp_path):
    store = Store(tmp_path)
    one, other = store.folder("pretrain", "a"), store.folder("pretrain", "b")
    one.save_result(RESULT, {})
    assert other.load_result() is None
    with one.free() as free:
        assert free
        one.discard()
    assert not Path(one.path).exists()
    assert isinstance(store.folder("pretrain", "a"), StageFolder)


def test_a_folder_that_is_discarded_is_made_anew_by_who_comes_next(folder):
    with folder.free() as free:
        assert free
        folder.discard()
    with folder.locked(), folder.free() as other:
        assert not other
        folder.save_result(RESULT, {})
    assert folder.load_result() is not None


def checkpoint_of(value):
    return Checkpoint(model={"a": value}, optimisers=[], tensors={}, history=[], selected={}, mean={})


def test_what_killed_writers_left_is_cleared_under_the_lock(tmp_path):
    folder = Store(tmp_path / "stages").folder("pretrain", "0123")
    for name in (".checkpoint.pt.123", ".result.pt.99", ".done.json.7"):
        (folder.path / name).write_bytes(b"half")
    folder.save_checkpoint(checkpoint_of(torch.zeros(1)))
    with folder.locked():
        assert not list(folder.path.glob(".*")) and folder.load_checkpoint() is not None


@pytest.mark.parametrize("kind", ["file", "broken link"])
def test_what_is_in_the_place_of_a_stage_is_put_aside(tmp_path, kind):
    store = Store(tmp_path / "stages")
    place = tmp_path / "stages" / "pretrain-0123"
    if kind == "file":
        place.write_text("x")
    else:
        place.symlink_to("nothere")
    with pytest.warns(UserWarning, match="put aside"):
        folder = store.folder("pretrain", "0123")
    assert folder.path.is_dir() and folder.load_result() is None
    assert len(list((tmp_path / "stages").iterdir())) == 2


REPORT = to_plain(Report(history=[{"epoch": 1.0}]))
SCORE = to_plain(ConflictScore(ids=torch.arange(2), score=torch.zeros(2), threshold=0.5, miner="mine_none"))


@pytest.mark.parametrize(
    "content",
    [{}, [1], None, torch.zeros(2), {"report": REPORT}, {"conflict_score": SCORE}]
    + [{"conflict_score": 1, "report": REPORT}]
    + [{"conflict_score": SCORE, "report": {**REPORT, "history": history}} for history in ([1], [{}], 3, None)]
    + [{"conflict_score": SCORE, "report": {**REPORT, field: value}}
       for field in ("summary", "matrices", "predictions", "epochs", "sparsity")
       for value in (None, 3, [], {"last": "x"}, {"last": None}, {"last": {"model": "x"}})]
    + [{"conflict_score": SCORE, "report": {**REPORT, "history": [{"epoch": 1.0, "loss": value}]}}
       for value in (None, "x", [], torch.zeros(3))]
    + [{"conflict_score": SCORE, "report": {name: value for name, value in REPORT.items() if name != left}}
       for left in REPORT],
)  # fmt: skip
def test_a_result_of_another_form_is_not_used(tmp_path, content):
    folder = Store(tmp_path / "stages").folder("mine_none", "0123")

    def stored(content):
        torch.save(content, folder.path / "result.pt")
        about = {"sha256": digest_of_file(folder.path / "result.pt")}
        (folder.path / "done.json").write_text(json.dumps(about))
        return folder.load_result(("conflict_score",))

    with pytest.warns(UserWarning, match="not used"):
        assert stored(content) is None
    assert stored({"conflict_score": SCORE, "report": REPORT}) is not None


@pytest.mark.parametrize("most", [0, 100, 5_000])
def test_a_full_disk_is_one_line_and_leaves_the_file_before(tmp_path, most):
    """A limit on the size of files stands for a disk that is full."""
    folder = Store(tmp_path / "stages").folder("pretrain", "0123")
    folder.save_checkpoint(checkpoint_of(torch.ones(3)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(UserError, match=r"checkpoint.pt cannot be written.*is the disk full"):
            folder.save_checkpoint(checkpoint_of(torch.zeros(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert folder.load_checkpoint().model["a"].tolist() == [1, 1, 1]
    assert [path.name for path in folder.path.iterdir()] == ["checkpoint.pt"]
