"""Several seeds simultaneously: for each the numbers of a run by itself, whatever happens to them on the way."""

import re
from collections.abc import Sequence
from functools import partial

import pytest
import torch

from debias.data.loading import load_task
from debias.errors import UserError
from debias.stages.recipes import STAGES, stages_of
from debias.sweeps.plan import run_key
from debias.tracking.folders import read_runs
from debias.training.loop import Loop
from debias.training.replicas import Meeting, run_replicas
from debias.training.store import Store
from debias.training.walk import run_stages
from tests.pipeline import method_with, same, short
from tests.tolerance import differ, same_to_float_tolerance

SEEDS = (3, 4, 5)
CPU = torch.device("cpu")
TRAINED = [name for name, stage in STAGES.items() if "epochs" in stage.settings]
# Why a stage's seeds are trained one after another; all others are trained simultaneously.
NOT_AT_ONCE = {
    "mine_ensemble": "keeps averages",
    # Which of the two depends on the version of torch.
    "prune": "draws at random|torch cannot compute them simultaneously",
    "lff": "keeps averages",
    "lc": "keeps averages",
    "dfa": "keeps averages",
    "selecmix": "draws at random",
    "rebias": "more than one update",
    "group_dro": "keeps averages",
    "lntl": "more than one update",
    "fisher": "keeps averages",
    "shortcut": "BatchNorm2d",
    "transfer": "keeps averages",
    "afr": "not made of the same operations",
    "dfr": "not made of the same operations",
    "augmented": "not made of the same operations",
}


@pytest.fixture
def several(tiny, tmp_path):
    """several("erm", ...) -> (stages, tasks, settings): what `run_replicas` is given for three seeds, or for some."""

    def make(*words: str, last: str | None = None, seeds: Sequence[int] = SEEDS):
        every = [tiny(*words, f"seed={seed}") for seed in seeds]
        return stages_of(every[0]["method"], last, every[0]["dataset"]), [load_task(own) for own in every], every

    return make


def at_once(given, store, say=lambda line: None, device=CPU):
    return run_replicas(*given, device, Store(store), say=say, progress=False)


def outcomes(given, store, device=CPU):
    stages, tasks, every = given
    quiet = {"say": lambda line: None, "progress": False}
    return [
        run_stages(stages, task, own, device, Store(store), **quiet) for task, own in zip(tasks, every, strict=True)
    ]


@pytest.mark.recipe
@pytest.mark.parametrize("stage", TRAINED)
def test_the_numbers_of_a_single_run(several, tmp_path, stage):
    """Simultaneously to float tolerance, one after another to the last bit."""
    seeds = SEEDS[:2] if stage in NOT_AT_ONCE else SEEDS
    # The 480 images are four batches of one size; of a short last one another program would be made.
    given = several(*short(method_with(stage), 1, batch_size=120), last=stage, seeds=seeds)
    said: list[str] = []
    assert at_once(given, tmp_path / "many", said.append) == [None] * len(seeds)
    together, alone = outcomes(given, tmp_path / "many"), outcomes(given, tmp_path / "alone")
    assert all(about.reused for outcome in together for about in outcome.stages.values())
    counts = {outcome.stages[stage].report.replicas for outcome in together}
    why = [line for line in said if line.startswith(f"{stage}: the runs are trained one after another")]
    if stage in NOT_AT_ONCE:
        assert counts == {1} and len(why) == 1 and re.search(NOT_AT_ONCE[stage], why[0])
        if all(about.report.replicas == 1 for about in together[0].stages.values()):
            assert max(map(differ, together, alone)) == 0
    else:
        assert counts == {3} and not why
    same_to_float_tolerance(together, alone)


@pytest.mark.recipe
@pytest.mark.parametrize(("optimiser", "layout"), [("sgd", "on"), ("adamw", "off")])
def test_every_optimiser_and_convolutions(several, tmp_path, optimiser, layout):
    """LeNet on grey images with a colour beside them; the last batch of an epoch is a short one."""
    words = ["dataset=bimodal_digits", "valid_fraction=0", "method=erm", "pretrain.network=lenet", "pretrain.epochs=2"]
    words.append(f"channels_last={layout}")
    given = several(*words, f"optimiser={optimiser}", "pretrain.weight_decay=0.01", "pretrain.batch_size=128")
    assert at_once(given, tmp_path / "many") == [None] * 3
    together = outcomes(given, tmp_path / "many")
    assert {outcome.stages["pretrain"].report.replicas for outcome in together} == {3}
    same_to_float_tolerance(together, outcomes(given, tmp_path / "alone"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_numbers_of_a_single_run_on_a_gpu(several, tmp_path):
    given, gpu = several(*short("denetdm", 1)), torch.device("cuda")
    assert at_once(given, tmp_path / "many", device=gpu) == [None] * 3
    together = outcomes(given, tmp_path / "many", gpu)
    assert {outcome.stages["distill"].report.replicas for outcome in together} == {3}
    same_to_float_tolerance(together, outcomes(given, tmp_path / "alone", gpu))


class Stop(BaseException):
    pass


@pytest.mark.recipe
@pytest.mark.parametrize("left", [3, 1], ids=["all have come as far", "one is ahead"])
def test_interrupted_and_gone_on_with(several, tmp_path, monkeypatch, left):
    """Where only some checkpoints of an epoch were written all go on from those before; one may go on by itself."""
    given = several("checkpoint_seconds=0", *short("denetdm", 4), last="branches")
    written = []
    save = Loop.checkpoint

    def dying(loop, group):
        if len(written) == 3 + left:
            raise Stop
        save(loop, group)
        written.append(loop.ctx.seed)

    monkeypatch.setattr(Loop, "checkpoint", dying)
    with pytest.raises(Stop):
        at_once(given, tmp_path / "many")
    monkeypatch.setattr(Loop, "checkpoint", save)
    assert written == [*SEEDS, *SEEDS[:left]]
    # Weights, two moments and two selections, of one seed each.
    sizes = [path.stat().st_size for path in (tmp_path / "many").glob("branches-*/checkpoint.pt")]
    assert len(sizes) == 3 and all(size < 5.5 * 4 * 520_000 for size in sizes)

    alone = outcomes(given, tmp_path / "alone")
    stages, tasks, every = given
    said: list[str] = []
    if left == 3:
        # One by itself, as by the command without `replicas`.
        quiet = {"say": said.append, "progress": False}
        first = run_stages(stages, tasks[0], every[0], CPU, Store(tmp_path / "many"), **quiet)
        assert "branches: resuming after epoch 2 of 4" in said
        assert differ(first, alone[0]) < 5e-4
    said.clear()
    assert at_once(given, tmp_path / "many", said.append) == [None] * 3
    assert [line[:6] for line in said if "resuming after epoch" in line] == [f"seed {n}" for n in SEEDS[left == 3 :]]
    assert {line.partition("resuming")[2] for line in said} >= {f" after epoch {1 + (left == 3)} of 4"}
    together = outcomes(given, tmp_path / "many")
    # Also of those that have gone on in another group, or alone, than the one they began in.
    assert [outcome.stages["branches"].report.replicas for outcome in together] == [3, 3, 3]
    same_to_float_tolerance(together, alone)
    if left == 1:
        assert at_once(given, tmp_path / "undisturbed") == [None] * 3
        for found, wanted in zip(together, outcomes(given, tmp_path / "undisturbed"), strict=True):
            same(found.artifacts, wanted.artifacts)


@pytest.mark.recipe
@pytest.mark.parametrize(("below", "starts"), [(20, [2, 1, 1]), (28, [2, 1, 2]), (100, [2, 2, 2])])
def test_seeds_that_start_anew_leave_the_others(several, tmp_path, below, starts):
    """As they would by themselves, whether two, one or none of the others are left."""
    words = ["branches.restarts=1", "branches.restart_after=1", f"branches.restart_below={below}"]
    given = several(*short("denetdm", 3), *words, last="branches")
    assert at_once(given, tmp_path / "many") == [None] * 3
    together, alone = outcomes(given, tmp_path / "many"), outcomes(given, tmp_path / "alone")
    assert [outcome.stages["branches"].report.starts for outcome in together] == starts
    assert [outcome.stages["branches"].report.starts for outcome in alone] == starts
    same_to_float_tolerance(together, alone)


@pytest.mark.recipe
def test_a_seed_that_fails_leaves_the_others(several, tmp_path):
    given = several(*short("erm"))
    given[2][1]["pretrain"]["learning_rate"] = 1e30
    said: list[str] = []
    failures = at_once(given, tmp_path / "many", said.append)
    assert [failure is None for failure in failures] == [True, False, True]
    assert "lower pretrain.learning_rate" in str(failures[1])
    assert any("different optimisers" in line for line in said)
    assert any(line.startswith("seed 4: pretrain failed: ") for line in said)


@pytest.mark.recipe
def test_locks_are_let_go_when_it_is_interrupted(several, tmp_path, monkeypatch):
    """Also by seeds that wait for others."""
    given = several(*short("erm"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "resume", interrupted)
    with pytest.raises(KeyboardInterrupt):
        at_once(given, tmp_path / "many")
    monkeypatch.undo()
    said: list[str] = []
    assert at_once(given, tmp_path / "many", said.append) == [None] * 3
    assert not any("another process" in line for line in said)


def test_functions_run_one_at_a_time():
    """Each until it ends; what one raises is given back and stops no other."""
    order = []

    def call(name):
        order.append(f"{name} begins")
        if name == "b":
            raise ValueError(name)
        order.append(f"{name} ends")

    found = Meeting(print).run([partial(call, name) for name in "abc"])
    assert order == ["a begins", "a ends", "b begins", "c begins", "c ends"]
    assert [str(error) for error in found] == ["None", "b", "None"]


@pytest.mark.recipe
def test_a_run_for_every_seed(command, tmp_path, capfd):
    """Recorded as ordinary runs, with the curves and pictures of one, and shown as a mean."""
    words = [*short("erm"), "pretrain.network=mlp3", "seed=7"]
    assert command(*words, "replicas=2") == 0
    out = capfd.readouterr().out
    assert "± " in out.splitlines()[-2] and out.splitlines()[-2].split()[-1] == "2"
    runs = list(read_runs(tmp_path / "runs"))
    assert [(run.config["seed"], run.status, run.command) for run in runs] == [
        (7, "COMPLETED", "train"), (8, "COMPLETED", "train"),
    ]  # fmt: skip
    for run in runs:
        assert run.info["stages"]["pretrain"]["replicas"] == 2
        assert (run.folder / "metrics.json").stat().st_size > 500
        assert (run.folder / "weights.safetensors").exists()
    # The same run by itself is known, and `fresh` makes it again.
    assert run_key(runs[1].config) == run_key({**runs[0].config, "replicas": 1, "seed": 8})
    assert command(*words, "seed=8") == 0
    assert "pretrain: finished before, reused" in capfd.readouterr().err
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "stages").glob("*/result.pt")}
    assert command(*words, "replicas=2", "fresh=True") == 0
    after = {path: path.stat().st_mtime_ns for path in before}
    assert len(before) == 2 and all(after[path] > before[path] for path in before)
    again = list(read_runs(tmp_path / "runs"))[-2:]
    assert [run.info["stages"]["pretrain"]["replicas"] for run in again] == [2, 2], "not once more after it"


def test_too_many_seeds_are_refused(tiny):
    with pytest.raises(UserError, match="replicas=3: seeds end at 4294967295"):
        tiny("seed=4294967294", "replicas=3")
