"""The README against the program: its commands resolve, its names exist. Its examples: test_readme_examples.py."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from debias import main, results
from debias.commands.review import parse
from debias.data.generated.biased import VALIDATIONS
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.tracking.results.gather import Filter
from scripts.reference import with_methods
from tests.pipeline import short

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# A remark stands behind two blanks.
COMMANDS = [
    re.split(r"\s{2,}", line.strip())[0] for line in README.splitlines() if line.startswith("    python main.py ")
]
ROWS = {cells[0].strip(): cells[1] for line in README.splitlines() if len(cells := line.strip("|").split("|", 1)) == 2}


def ticked(text: str) -> list[str]:
    """What stands in ticks, of the text between blocks of code."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


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
    if command == "review":
        parse(words[1:])
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


def test_the_table_of_methods_is_current():
    assert with_methods(README) == README, "run python -m scripts.reference"


def test_methods_are_on_the_right_side():
    """Each says whether it needs bias labels."""
    for name in RECIPES:
        needed = any(stage.needs_bias_labels for stage in stages_of(name))
        assert ("not needed" in ROWS[f"`{name}`"]) is not needed


def test_settings_named_in_the_text_resolve(configured):
    """Words in ticks that are a setting with a value."""
    values = [words for words in ticked(README) if re.fullmatch(r"[a-z_0-9.]+=[^…\s]+", words) and "FILE" not in words]
    known = [words for words in values if not words.startswith(("search.", "confident.", "mongo_url", "labels="))]
    assert len(known) >= 8
    for words in known:
        if words.startswith("pretrain.network=tiny"):
            continue  # the example's
        configured(*shlex.split(words))


def test_selections(run_tiny, task):
    found = set()
    for selection in VALIDATIONS.values():
        outcome = run_tiny("erm", "pretrain.epochs=1", task=replace(task, selection=selection, key=selection))
        found |= set(outcome.stages["pretrain"].report.epochs)
    outcome = run_tiny(*short("[mine_gce,bias_balanced]", 1), task=task)
    found |= set(outcome.stages["bias_balanced"].report.epochs)
    table = README.split("| selection | which weights |")[1].split("\n\n")[0]
    assert found == set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE))
