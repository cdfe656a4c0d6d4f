"""Which trials are trained simultaneously: by their settings, their number, and the device."""

import pytest
import torch

from debias.config import resolve
from debias.models.lastblock import PARTS
from debias.models.onfeatures import EARLY
from debias.models.registry import BACKBONES, build_backbone
from debias.stages.recipes import STAGES
from debias.sweeps.alike import ONE_BY_ONE, PLAIN, VARYING
from debias.sweeps.drive import Clock, duration
from debias.sweeps.plan import Trial, configured, words_plan
from debias.sweeps.together import MOST, spelled_out, trained_together, whole, with_groups
from debias.sweeps.work import Assignment, Ending
from tests.training.test_replicas import NOT_AT_ONCE


@pytest.mark.parametrize(
    ("grid", "sizes"),
    [
        (["erm", "skew=0.05,0.2", "severity=1,4", "seed=1,2"], [8]),
        (["method=erm,denetdm", "seed=1..3"], [3, 3]),
        (["erm", "pretrain.learning_rate=0.1,0.01", "seed=1,2"], [2, 2]),
        (["erm", "limit=600,900", "seed=1,2"], [2, 2]),
        (["erm", "reverse=True,False", "seed=1,2"], [2, 2]),
        (["method=erm,lff", "pretrain.network=mlp3,resnet20", "seed=1,2"], [2, 1, 1, 1, 1]),
        (["dcwp", "seed=1,2"], [1, 1]),
        (["erm", "compile=on", "seed=1,2"], [1, 1]),
    ],
)
def test_which_trials_are_grouped(experiment, grid, sizes):
    plan = words_plan(experiment, ["colored_digits", *grid])
    groups = trained_together(plan.trials, MOST)
    assert [len(group) for group in groups] == sizes
    assert sorted(trial.key for group in groups for trial in group) == sorted(trial.key for trial in plan.trials)
    assert [len(group) for group in trained_together(plan.trials, 1)] == [1] * len(plan.trials)


def test_groups_are_of_one_size(experiment):
    plan = words_plan(experiment, ["colored_digits", "erm", "seed=1..7"])
    assert [len(group) for group in trained_together(plan.trials, 6)] == [4, 3]
    assert [trial.seed for group in trained_together(plan.trials, 6) for trial in group] == list(range(1, 8))


def test_stages_and_networks_that_do_not_stack_are_known():
    assert set(NOT_AT_ONCE) == ONE_BY_ONE
    functions = set()
    for name in BACKBONES:
        with torch.device("meta"):
            shape = (3, 224, 224) if name not in PARTS else (PARTS[name].channels + EARLY, 1, 1)
            modules = list(build_backbone(name, shape).modules())
        kinds = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.dropout._DropoutNd)
        if not any(isinstance(module, kinds) for module in modules):
            functions.add(name)
    assert functions == PLAIN


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1", "cpu"])
def test_a_gpu_makes_groups_by_itself(experiment, monkeypatch, device):
    """Where all trials run in one process; never those that stay on the CPU."""
    plan = words_plan(experiment, ["colored_digits", "erm", "seed=1..3", f"device={device}"])
    assert with_groups(plan, "auto", alone=True) == plan, "no GPU is here"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    chosen = with_groups(plan, "auto", alone=True)
    sizes = [len(group) for group in trained_together(chosen.trials, chosen.together)]
    assert sizes == ([1, 1, 1] if device == "cpu" else [3])
    assert with_groups(plan, "auto", alone=False) == plan
    assert with_groups(plan, 1, alone=True).together == 1


def test_replicas_keep_their_own_groups_on_a_gpu(experiment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    plan = with_groups(words_plan(experiment, ["colored_digits", "erm", "seed=1..5", "replicas=2"]), "auto", True)
    assert [len(group) for group in trained_together(plan.trials, plan.together)] == [2, 2, 1]


def test_settings_that_may_differ_exist(experiment):
    settings = resolve(configured(experiment, ["colored_digits"]))
    assert settings.keys() >= VARYING and not VARYING & STAGES.keys()


def test_time_left_knows_what_is_trained_already(tmp_path):
    """Of eight trials four took 400 s simultaneously, of which two were recorded in 10 s each."""
    clock = Clock(8)
    group = tuple(Trial((), f"{n}", f"key{n}") for n in range(4))
    clock.trained(Assignment(whole(group), tmp_path, group=group), Ending("trained", None, 400.0))
    for trial in group[:2]:
        ending = clock.with_share(Assignment(trial, tmp_path), Ending("finished", None, 10.0))
        assert ending.seconds == 110
        clock.took(ending.seconds)
    assert clock.left().startswith(f"; about {duration(2 * 10 + 4 * 110)} left")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([], []),
        (["--together"], ["--together=on"]),
        (["--together", "FILE"], ["--together=on", "FILE"]),
        (["FILE", "--together", "8", "--dry-run"], ["FILE", "--together", "8", "--dry-run"]),
        (["FILE", "--together", "off"], ["FILE", "--together", "off"]),
    ],
)
def test_the_option_stands_alone_or_with_a_number(given, read):
    assert spelled_out(given) == read
