"""The README against the program: its commands resolve, its names exist, its example of a method runs."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.nn.functional import cross_entropy

import main
import results
from data.generated.biased import VALIDATIONS
from data.registry import DATASETS
from settings import Setting
from stages.common import budget, classifier
from stages.recipes import RECIPES, STAGES, Recipe, stages_of
from tests.pipeline import same, short
from tracking.results.gather import Filter
from training import loop as fit
from training import stage as base

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A remark stands behind two blanks.
COMMANDS = [
    re.split(r"\s{2,}", line.strip())[0] for line in README.splitlines() if line.startswith("    python main.py ")
]
ROWS = {cells[0].strip(): cells[1] for line in README.splitlines() if len(cells := line.strip("|").split("|", 1)) == 2}


def ticked(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_there_are_commands():
    assert len(COMMANDS) >= 5 and "python main.py help" in COMMANDS


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_resolves(configured, line):
    words = [word for word in shlex.split(line)[2:] if word != "..."]
    command = words[0] if words and words[0] != "with" else "train"
    settings = configured(*words[words.index("with") + 1 :]) if "with" in words else configured()
    experiment = main.build()
    if command == "help":
        return
    assert command in dict(experiment.gather_commands())
    if words[-1] != "with":
        main.check_words(experiment, words)
    # A stage's command must be one of the method that is chosen.
    stages_of(settings["method"], command if command in STAGES or command == "mine" else None, settings["dataset"])


def test_commands_about_results_parse():
    lines = [line.strip() for line in README.splitlines() if line.startswith("    python results.py")]
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(re.split(r"\s{2,}", line)[0])[2:]
        if words != ["--help"]:
            _, options = results.PROGRAM.parse(words)
            assert all(Filter.parse(word) for word in getattr(options, "filters", ()))


def test_scripts_and_linked_folders_exist():
    scripts = re.findall(r"bash (scripts/\S+\.sh)", README)
    assert len(scripts) >= 3
    for path in scripts:
        assert (ROOT / path).is_file(), path


def test_data_sets():
    assert set(ticked(ROWS["data sets"])) == set(DATASETS)


def test_methods():
    """All of them, and on the right side of what they need."""
    for row, needed in (("methods without bias labels", False), ("methods with bias labels", True)):
        named = {name for name in RECIPES if any(stage.needs_bias_labels for stage in stages_of(name)) is needed}
        assert set(ticked(ROWS[row])) == named


def test_skews_and_other_settings(configured):
    row = ROWS["share of conflicting images"]
    pairs = re.findall(r"`((?:skewed|rho)\d+)` (\.\d+)", row)
    assert len(pairs) == 9
    for name, share in pairs:
        assert configured(name)["skew"] == float(share)
    for row in ("share of conflicting images", "colour noise", "your own order of stages", "other"):
        for words in ticked(ROWS[row]):
            configured(*shlex.split(words))


def test_selections(run_tiny, task):
    found = set()
    for selection in VALIDATIONS.values():
        outcome = run_tiny("erm", "pretrain.epochs=1", task=replace(task, selection=selection, key=selection))
        found |= set(outcome.stages["pretrain"].report.epochs)
    outcome = run_tiny(*short("[mine_gce,bias_balanced]", 1), task=task)
    found |= set(outcome.stages["bias_balanced"].report.epochs)
    assert found == {ticked(name)[0] for name in ROWS if ticked(name) and name.startswith("`") and name.endswith("`")}


def test_the_example_of_a_method_runs(run_tiny, configured, task, monkeypatch):
    """One class and one line give settings, a command, a resume and a reuse."""
    (block,) = re.findall(r"```python\n(class .*?)```", README, flags=re.DOTALL)
    names: dict[str, Any] = {
        "__name__": "stages.yours",
        "Stage": base.Stage,
        "Setting": Setting,
        "cross_entropy": cross_entropy,
    }
    for module in (budget, classifier, fit):
        names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    exec(compile(block, "README.md", "exec"), names)
    stage = names["Yours"]()
    monkeypatch.setitem(STAGES, stage.name, stage)
    monkeypatch.setitem(RECIPES, "readme", Recipe(("mine_none", stage.name), "the README's method"))

    assert configured("method=readme", "yours.strength=3")["yours"]["strength"] == 3
    assert stage.name in dict(main.build().gather_commands())
    words = ("method=readme", "yours.epochs=3", "yours.batch_size=128", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "yours/loss" and epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(*words, task=task, log=stop)
    said: list[str] = []
    outcome = run_tiny(*words, task=task, say=said.append)
    assert any("yours: going on after epoch 1 of 3" in line for line in said)
    assert {f"model/unbiased/{selection}" for selection in ("last", "mean", "oracle")} <= set(outcome.summary)
    again = run_tiny(*words, task=task)
    assert again.stages["yours"].reused
    same(again.artifacts, outcome.artifacts)
