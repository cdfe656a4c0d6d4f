"""The command line: what it refuses, and how; its help."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from debias import main
from debias.catalogue import RUN_SETTINGS, known_settings
from debias.config import NAMED_CONFIGS, resolve
from debias.data.registry import DATASETS
from debias.stages.methods import command_of
from debias.stages.recipes import RECIPES, STAGES
from debias.training.code import ROOT


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["with", "sed=3"], "did you mean seed?"),
        (["with", "skew=abc"], "setting skew: 'abc' is not accepted; a number from 0 to 1"),
        (["with", "colored_mnist", "colored_digits"], "two data sets are given: colored_mnist and colored_digits"),
        (["with", "pretrain=3", "pretrain.epochs=3"], "group of settings"),
        (["with"], "after `with` come settings"),
        (["train", "with"], "after `with` come settings"),
        (["trian"], "no command is called 'trian'; did you mean train?"),
        (["trian", "with", "seed=3"], "did you mean train?"),
        (["skewed1", "quick"], "write: python main.py with skewed1 quick"),
        (["seed=3"], "write: python main.py with seed=3"),
        (["train", "skewed1"], "python main.py train with skewed1"),
        (["print_config", "with", "sed=3"], "did you mean seed?"),
        (["--nosuch"], "help"),
        (["with", "seed=3", "-Z"], "help"),
        (["help", "sed"], "did you mean seed?"),
        (["evaluate"], "set checkpoint=FILE"),
        (["with", "train=False"], "set checkpoint=FILE"),
        (
            ["evaluate", "with", "checkpoint=nowhere.safetensors"],
            "checkpoint=nowhere.safetensors: there is no such file",
        ),
        (["evaluate", "with", "checkpoint=."], "there is no such file"),
        (["pretrain", "with", "denetdm"], "pretrain is not a stage of method=denetdm"),
        (["mine", "with", "erm"], "mines nothing"),
        (["with", "distill.teacher=valid"], "set valid_fraction"),
        (["with", "store=/dev/null/runs"], "store=/dev/null/runs: cannot be written to"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_answered_in_one_line(tmp_path, monkeypatch, capfd, words, says):
    monkeypatch.chdir(tmp_path)
    assert main.main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert says in err
    assert not any(path.name.isdigit() for path in tmp_path.rglob("*")), "a run was recorded"


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def errors_in(text: str) -> list[str]:
    assert "Traceback" not in text
    assert not re.search(r"^(ERROR|WARNING)", text, re.MULTILINE)
    return [line for line in text.splitlines() if line.startswith("error: ")]


def test_missing_data_say_where_they_belong(command, tmp_path, monkeypatch, capfd):
    from torchvision import datasets

    def no_network(*args, **options):
        raise OSError("no network")

    monkeypatch.setattr(datasets, "MNIST", no_network)
    words = ["dataset=colored_mnist", "data_dir=/nonexistent", f"cache_dir={tmp_path / 'cache'}"]
    assert command(*words) == 2
    (line,) = errors_in(capfd.readouterr().err)
    assert "MNIST was not found" in line
    assert read(tmp_path / "runs" / "1", "run.json")["status"] == "FAILED"


@pytest.mark.parametrize(
    ("word", "says"), [("device=nosuch", "device=nosuch"), ("cache_dir=/dev/null/cache", "/dev/null/cache")]
)
def test_what_only_shows_during_a_run(command, tmp_path, capfd, word, says):
    assert command(word) == 2
    (line,) = errors_in(capfd.readouterr().err)
    assert says in line
    assert read(tmp_path / "runs" / "1", "run.json")["status"] == "FAILED"


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
@pytest.mark.parametrize("suffix", ["safetensors", "th"])
def test_a_checkpoint_that_is_none(command, tmp_path, capfd, content, suffix):
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    assert command(f"checkpoint={path}", name="evaluate") == 2
    (line,) = errors_in(capfd.readouterr().err)
    assert f"checkpoint={path}: " in line


def test_as_a_user_starts_it(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, "-X", "importtime", str(ROOT / "main.py"), "with", "sede=3"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    imported = {part.rpartition("|")[2].strip() for part in done.stderr.splitlines() if part.startswith("import time:")}
    # Torch's compiler takes as long to import as all the rest.
    assert {"torch", "sacred"} <= imported and not {"torchvision", "torch._dynamo", "sympy"} & imported
    said = "".join(part for part in done.stderr.splitlines(True) if not part.startswith("import time:"))
    assert said == "error: no setting is called 'sede'; did you mean seed? (`print_config` lists them all)\n"
    assert not list(tmp_path.iterdir())


def words_of(text: str) -> str:
    """Without colours and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_names_everything(capfd, word):
    assert main.main([word]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    out = words_of(out)
    everything: list[Iterable[str]] = [DATASETS, RECIPES, STAGES, RUN_SETTINGS, *NAMED_CONFIGS.values()]
    for names in everything:
        assert not [name for name in names if name not in out]
    summaries = [spec.summary for spec in DATASETS.values()]
    summaries += [recipe.summary for recipe in RECIPES.values()] + [stage.summary for stage in STAGES.values()]
    assert not [summary for summary in summaries if words_of(summary) not in out]
    assert not [setting.help for setting in RUN_SETTINGS.values() if words_of(setting.help) not in out]


def test_help_of_one_word(capfd):
    assert main.main(["help", "distill", "seed", "evaluate"]) == 0
    out = words_of(capfd.readouterr().out)
    for part in (
        "distill.temperature: softens teacher and student",
        "seed: the only seed",
        "evaluate: Print and record",
    ):
        assert part in out


def test_help_of_a_method_is_its_recipe(capfd):
    assert main.main(["help", "dcwp", "lff"]) == 0
    out = words_of(capfd.readouterr().out)
    dcwp = RECIPES["dcwp"]
    for part in (dcwp.summary, dcwp.link, dcwp.cost, dcwp.expected, "stages: pretrain, mine_gce, prune, finetune"):
        assert part in out
    assert "command: python main.py with colored_mnist skewed1 severity4 dcwp" in out
    # A name that a method and a stage share has both.
    assert "method lff: Learning from Failure" in out and "lff.q:" in out


def test_help_of_a_data_set_and_of_an_operator(capfd):
    assert main.main(["help", "ensemble_bar", "jitter_released", "backdrop"]) == 0
    out = words_of(capfd.readouterr().out)
    for part in (
        f"data set ensemble_bar: {DATASETS['ensemble_bar'].summary}", "kind: photographs", "skew=0.01",
        "changed by: crop_flip", "image_size: side of the images", "variance: variance sigma^2", "changed by: nothing",
        "operator backdrop: the colour that fills most of the image",
    ):  # fmt: skip
        assert part in out, part
    # It has one share of conflicting images, which no setting chooses.
    assert (
        "skew: share" in out.partition("jitter_released")[0]
        and "skew: share" not in out.partition("jitter_released")[2]
    )


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_help(capfd, name):
    assert main.main(["help", name]) == 0
    assert f"data set {name}:" in words_of(capfd.readouterr().out)


@pytest.mark.parametrize("method", RECIPES)
def test_the_command_of_a_method_is_accepted_and_trains_it(configured, method):
    words = command_of(method).removeprefix("python main.py with ").split()
    assert resolve(configured(*words))["method"] == method


def test_print_config_gives_the_settings_of_the_method_and_the_data_set(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["print_config", "with", "colored_digits", "erm"]) == 0
    out = words_of(capfd.readouterr().out)
    assert "severity = 4 #" in out and "pretrain:" in out and "weight_decay = 0.0 #" in out
    assert not re.search(r"\b(distill|branches|lntl):", out) and not re.search(
        r"\b(variance|labels|rho999|type) =", out
    )


def test_print_config_gives_every_setting_with_its_value_and_meaning(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["colored_digits", "skewed3", "pretrain.epochs=77", "everything=True"]
    assert main.main(["print_config", "with", *words]) == 0
    out = words_of(capfd.readouterr().out)
    assert "skew = 0.01 #" in out and "epochs = 77 #" in out and "dataset = 'colored_digits' #" in out
    for path, setting in known_settings().items():
        assert re.search(rf"\b{path.rpartition('.')[2]} = [^#]+# {re.escape(words_of(setting.help))}", out), path
    for stage in STAGES.values():
        assert words_of(stage.summary) in out
