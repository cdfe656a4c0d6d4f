"""Every recipe and every stage: they fit together, train, repeat, are reused, and read no bias labels unasked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from debias.data.loading import load_task
from debias.errors import UserError
from debias.stages.common.scores import report_of
from debias.stages.recipes import RECIPES, STAGES, check, stages_of
from debias.training.artifacts import Artifact, take
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.stage import Stage
from debias.training.store import Store
from debias.training.walk import run_stages, stage_key
from tests.pipeline import method_with, same, short

SELECTIONS = {"last", "mean", "valid", "oracle"}
# Where it is stored, shown and looked for.
IRRELEVANT = (
    "store=elsewhere",
    "progress=True",
    "checkpoint_seconds=7.0",
    "fresh=True",
    "train=False",
    "cache_dir=elsewhere",
    "data_dir=elsewhere",
    "threads=2",
    "quick=True",
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store in which what recipes share is computed once."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared_lies(tmp_path_factory):
    """The same for data with wrong bias labels."""
    return tmp_path_factory.mktemp("lies")


@pytest.mark.recipe
@pytest.mark.parametrize("method", RECIPES)
def test_every_recipe_trains(run_tiny, task, shared, method):
    logged: dict[str, list[int]] = {}
    outcome = run_tiny(
        *short(method),
        task=task,
        store=shared,
        log=lambda name, value, epoch: logged.setdefault(name, []).append(epoch),
    )
    assert tuple(outcome.stages) == RECIPES[method].stages
    for name, about in outcome.stages.items():
        stage, report = STAGES[name], about.report
        assert set(stage.gives) <= set(outcome.artifacts)
        if "epochs" not in stage.settings:
            assert not report.history and stage.read_outs == ()
            continue
        assert [row["epoch"] for row in report.history] == [1, 2]
        assert all(math.isfinite(value) for row in report.history for value in row.values())
        # From where on there are pseudo labels of the held-out images.
        earlier = RECIPES[method].stages[: RECIPES[method].stages.index(name)]
        given = {artifact for one in earlier for artifact in STAGES[one].gives}
        selections = SELECTIONS | ({"valid_pseudo"} if HELD_OUT_BIAS in given else set())
        assert set(report.matrices) == set(report.epochs) == selections
        read_outs = set(report.matrices["last"])
        assert read_outs == set(stage.read_outs)
        for selection in selections:
            for read_out in read_outs:
                assert f"{read_out}/unbiased/{selection}" in report.summary
                assert report.matrices[selection][read_out].shape == (2, 10, 10)
                assert report.matrices[selection][read_out][1].sum() == len(task.test)
            assert all(f"valid/{read_out}/average" in row for read_out in read_outs for row in report.history)
        assert logged[f"{name}/loss"] == [1, 2]
    for name, value in outcome.summary.items():
        assert len(name.split("/")) == 3
        assert type(value) is float and math.isfinite(value), name
    read_outs = {name.split("/")[0] for name in outcome.summary if "/unbiased/" in name}
    last = [STAGES[name].read_outs for name in outcome.stages if STAGES[name].read_outs][-1]
    assert set(last) <= read_outs


def test_oracle_is_the_best_on_the_test_set_and_never_worse_than_last(run_tiny, task, shared):
    outcome = run_tiny(*short("erm", 3), task=task, store=shared)
    history = outcome.stages["pretrain"].report.history
    best = max(row["model/unbiased"] for row in history)
    assert outcome.summary["model/unbiased/oracle"] == best >= outcome.summary["model/unbiased/last"]
    assert outcome.summary["model/unbiased/last"] == history[-1]["model/unbiased"]


def label_free() -> list[str]:
    """Recipes that ask for no bias labels, and each such stage that is in none of them as a method of its own."""
    recipes = [name for name in RECIPES if not any(stage.needs_bias_labels for stage in stages_of(name))]
    covered = {stage for name in recipes for stage in RECIPES[name].stages}
    # What reads a file has tests of its own.
    covered.add("mine_file")
    alone = [method_with(name) for name in STAGES if name not in covered and not STAGES[name].needs_bias_labels]
    return recipes + alone


@pytest.mark.recipe
@pytest.mark.parametrize("method", label_free())
def test_bias_labels_of_training_images_change_nothing_unasked(run_tiny, task, shared, shared_lies, method):
    """The property behind every figure: wrong bias labels, the same artifacts and the same history.

    But for the re-weighted accuracy, which is read off the test set and weighs its groups as the training set has them.
    """
    assert task.train.bias is not None and task.valid is not None and task.valid.bias is not None
    lied = replace(
        task,
        train=replace(task.train, bias=(task.train.bias * 7 + task.train.ids) % 10),
        valid=replace(task.valid, bias=(task.valid.bias * 3 + task.valid.ids) % 10),
    )
    true = run_tiny(*short(method), task=task, store=shared)
    wrong = run_tiny(*short(method), task=lied, store=shared_lies)
    same(wrong.artifacts, true.artifacts)
    for name in true.stages:
        same(*(told_without_labels(one.stages[name].report.history) for one in (wrong, true)), name)
        same(wrong.stages[name].report.matrices, true.stages[name].report.matrices, name)


def told_without_labels(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """A history without the figure that reads training labels by what it is."""
    return [{name: value for name, value in row.items() if not name.endswith("/reweighted")} for row in history]


@dataclass(frozen=True, eq=False)
class Seen(Artifact):
    """An artifact that the stage itself declares."""

    target: torch.Tensor
    bias: Sequence[torch.Tensor]


class Spy(Stage):
    """Notes what it is given."""

    name: ClassVar[str] = "spy"
    gives: ClassVar[tuple[str, ...]] = ("seen",)
    settings: ClassVar[dict] = {}

    def run(self, inputs, ctx):
        bias = [] if ctx.train.bias is None else [ctx.train.bias]
        return {"seen": Seen(ctx.train.target, bias), "report": report_of({})}


class DeclaredSpy(Spy):
    needs_bias_labels = True


@pytest.mark.parametrize("stage", [Spy(), DeclaredSpy()])
def test_bias_labels_only_for_those_who_declare_it(tiny, task, tmp_path, stage):
    settings = {**tiny(), "spy": {}}
    outcome = run_stages([stage], task, settings, torch.device("cpu"), Store(tmp_path), say=lambda line: None)
    again = run_stages([stage], task, settings, torch.device("cpu"), Store(tmp_path), say=lambda line: None)
    seen = take(again.artifacts, "seen", Seen)
    assert torch.equal(seen.target, task.train.target) and again.stages["spy"].reused
    assert outcome.stages["spy"].needs_bias_labels is stage.needs_bias_labels
    if stage.needs_bias_labels:
        assert torch.equal(seen.bias[0], task.train.bias)
    else:
        assert seen.bias == []


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(run_tiny):
    words = short("denetdm", 1)
    one, again = run_tiny(*words), run_tiny(*words, "fresh=True")
    assert not any(about.reused for about in again.stages.values())
    same(again.artifacts, one.artifacts)
    assert again.summary == one.summary
    other = run_tiny(*words, "seed=2")
    assert other.summary != one.summary
    for artifact in one.artifacts:
        for name, weights in one.artifacts[artifact].states["last"].items():
            assert not torch.equal(weights, other.artifacts[artifact].states["last"][name]), name


def test_the_second_time_nothing_is_computed(run_tiny, monkeypatch):
    words = short("denetdm", 1)
    logs: list[list[tuple]] = [[], []]
    first = run_tiny(*words, log=lambda *entry: logs[0].append(entry))
    for stage in first.stages:
        monkeypatch.setattr(STAGES[stage], "run", None)
    said: list[str] = []
    second = run_tiny(*words, log=lambda *entry: logs[1].append(entry), say=said.append)
    assert [about.reused for about in first.stages.values()] == [False, False]
    assert [about.reused for about in second.stages.values()] == [True, True]
    assert [line.split(":")[0] for line in said] == ["branches", "distill"]
    assert logs[0] == logs[1] != []
    same(second.artifacts, first.artifacts)
    assert second.summary == first.summary


def test_a_changed_stage_reuses_those_before_it(run_tiny):
    words = short("denetdm", 1)
    run_tiny(*words)
    reused = {
        change: [about.reused for about in run_tiny(*words, change).stages.values()]
        for change in ("distill.temperature=3.0", "branches.weight_decay=0.01", "fresh=True")
    }
    assert list(reused.values()) == [[True, False], [False, False], [False, False]]


def keys_of(tiny, task, *words: str) -> dict[str, str]:
    settings = tiny(*words)
    keys = {}
    for name, stage in STAGES.items():
        needs = dict.fromkeys((*stage.needs, *stage.uses), "given")
        keys[name] = stage_key(stage, task, settings, torch.device("cpu"), needs)
    return keys


@pytest.mark.parametrize("word", IRRELEVANT)
def test_what_cannot_change_a_result_is_in_no_key(tiny, task, word):
    plain = tiny()
    # A small budget is nothing but other defaults.
    budget = [
        (name, key) for name, stage in STAGES.items() for key, of in stage.settings.items() if of.quick is not None
    ]
    explicit = [f"{name}.{key}={plain[name][key]}" for name, key in budget]
    assert keys_of(tiny, task, *explicit, word) == keys_of(tiny, task, *explicit)


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_of_a_stage_is_in_its_key_alone(tiny, task, stage):
    plain, settings = keys_of(tiny, task), tiny()
    for name, setting in STAGES[stage].settings.items():
        value = settings[stage][name]
        if isinstance(value, bool):
            value = not value
        elif setting.kind is str or (isinstance(value, str) and setting.choices is None):
            value = __file__  # a text, and where one names a file, a file that is there
        elif value is None and setting.choices is None:
            value = 7
        elif setting.choices is not None:
            value = next(choice for choice in setting.choices if choice != value)
        else:
            # Downwards where it is bounded above, for shares and decay rates.
            low = setting.low or 0
            value = value * 2 + 1 if setting.high is None else (value + (low if value > low else setting.high)) / 2
        changed = keys_of(tiny, task, f"{stage}.{name}={value}")
        assert {other for other in STAGES if changed[other] != plain[other]} == {stage}, name


def test_the_keys_of_a_run(tiny, task):
    """Seed, optimiser, inputs, data, device kind, torch and code are in the key of every stage that they can change."""
    plain = keys_of(tiny, task)
    assert set(keys_of(tiny, task, "seed=2").values()).isdisjoint(plain.values())
    trained = [name for name, stage in STAGES.items() if "epochs" in stage.settings]
    sgd = keys_of(tiny, task, "sgd")
    assert all(sgd[name] != plain[name] for name in trained)
    other = keys_of(tiny, replace(task, key="other data"))
    assert set(other.values()).isdisjoint(plain.values())

    stage, settings = STAGES["distill"], tiny()
    cpu = torch.device("cpu")
    key = stage_key(stage, task, settings, cpu, {"branches": "one"})
    assert stage_key(stage, task, settings, cpu, {"branches": "two"}) != key
    assert stage_key(stage, task, settings, torch.device("cuda"), {"branches": "one"}) != key
    assert stage_key(stage, task, settings, cpu, {"branches": "one", "of no use": "x"}) == key
    other_code = type("LfF", (type(stage),), {"__module__": "debias.stages.lff"})()
    assert stage_key(other_code, task, settings, cpu, {"branches": "one"}) != key


def test_a_used_artifact_is_in_the_key(tiny, task):
    stage, settings, cpu = STAGES["finetune"], tiny(), torch.device("cpu")
    needs = {"model": "m", "conflict_score": "s"}
    keys = {stage_key(stage, task, settings, cpu, {**needs, **mask}) for mask in ({}, {"mask": "a"}, {"mask": "b"})}
    assert len(keys) == 3


@pytest.mark.parametrize(
    "word", ["skew=0.5", "severity=2", "seed=2", "reverse=True", "limit=300", "valid_fraction=0.1"]
)
def test_what_changes_the_data_changes_its_key(tiny, word):
    assert load_task(tiny(word)).key != load_task(tiny()).key


@pytest.mark.parametrize("method", RECIPES)
def test_a_recipe_is_complete(method):
    stages = stages_of(method)
    assert stages
    assert RECIPES[method].summary and "\n" not in RECIPES[method].summary
    assert len({stage.name for stage in stages}) == len(stages)
    for stage in stages:
        assert stages_of(method, stage.name)[-1] is stage
    assert stages_of(list(RECIPES[method].stages)) == stages
    assert "model" in {name for stage in stages for name in stage.gives}


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_a_stage_declares_itself(stage):
    given = {name for other in STAGES.values() for name in other.gives}
    assert set(stage.needs) | set(stage.uses) <= given
    assert stage.gives and stage.summary and "\n" not in stage.summary
    assert type(stage).__doc__ not in (None, Stage.__doc__)
    # A method of several stages can hold each of them.
    assert STAGES[stage.name] is stage
    assert method_with(stage.name)


@pytest.mark.parametrize(
    ("method", "last", "says"),
    [
        ("denetdn", None, "did you mean denetdm?"),
        (["branches", "distil"], None, "no stage is called 'distil'.*did you mean distill?"),
        ("denetdm", "pretrain", "pretrain is not a stage of method=denetdm, whose stages are branches, distill"),
        ("erm", "mine", "mines nothing"),
        (["distill"], None, "stage distill needs branches, which no earlier stage gives; branches would"),
        (["distill", "branches"], None, "distill needs branches"),
        (["finetune"], None, "finetune needs model, which no earlier stage gives; .*pretrain"),
        ([], None, "empty list"),
    ],
)
def test_what_is_no_method(method, last, says):
    with pytest.raises(UserError, match=says):
        stages_of(method, last)


def test_only_the_stages_asked_for_need_to_fit():
    check(["branches", "distill"])
    assert [stage.name for stage in stages_of("denetdm", "branches")] == ["branches"]
    assert [stage.name for stage in stages_of("dcwp", "mine")][-1] == "mine_gce"
