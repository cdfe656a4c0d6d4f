"""The command `diagnose`: it names the colours of coloured digits, nothing on clean ones, and pretends nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debias.commands.diagnose import STARTS
from debias.diagnosis import look
from debias.stages.recipes import STAGES
from debias.stages.shortcut import Shortcut


@pytest.fixture(autouse=True)
def _few_pairs(monkeypatch):
    """A third of the usual number is enough where nearly all of them move, or none; so of steps."""
    monkeypatch.setattr(look, "PAIRS", 100)
    monkeypatch.setattr(look, "_LEAST_STEPS", 150)


def diagnosis(folder: Path) -> dict:
    return json.loads((folder / "info.json").read_text(encoding="utf-8"))["diagnosis"]


@pytest.mark.recipe
def test_coloured_digits_and_clean_ones(command, tmp_path, capsys):
    assert command("dataset=colored_digits", "skew=0.01", name="diagnose") == 0
    said = capsys.readouterr().out
    assert "the shortcut is in the colours" in said and "How sure: " in said and "What would change this: " in said
    found = diagnosis(tmp_path / "runs" / "1")
    assert found["verdict"] == "named" and found["operators"]["channel_stats"]["transferred"][0] > 0.9
    assert found["operators"]["nothing"]["transferred"][0] == 0
    assert found["properties"]["mean colour"]["accuracy"] > 0.5
    names = {path.name for path in (tmp_path / "runs" / "1").iterdir()}
    shown = f"move-{found['operator']}.png"
    assert {"diagnosis.html", "rates.png", "places.png", shown, "suspects.csv", "suspects.png"} <= names
    page = (tmp_path / "runs" / "1" / "diagnosis.html").read_text(encoding="utf-8")
    assert "the shortcut is in the colours" in page and "http" not in page.replace("http-equiv", "")
    assert "python main.py mine with dataset=colored_digits" in said

    # digits in colours that say nothing about the class
    assert command("dataset=colored_digits", "skew=0.9", name="diagnose") == 0
    said = capsys.readouterr().out
    assert diagnosis(tmp_path / "runs" / "2")["verdict"] == "none"
    assert "no shortcut seen" in said and "the shortcut is" not in said


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("skew", "collapsed", "verdict", "stages"),
    # Where no start gives a network that can be asked, what a property alone tells is said all the same.
    [(0.01, 1, "named", 2), (0.01, STARTS, "named", STARTS), (0.9, STARTS, "unlearnt", STARTS)],
)
def test_a_network_that_answers_the_same_to_every_image_is_started_again(
    command, tmp_path, monkeypatch, capfd, skew, collapsed, verdict, stages
):
    draw, asked = look.draw_pairs, []

    def drawn(answers: torch.Tensor, *rest):
        asked.append(answers)
        return draw(torch.zeros_like(answers) if len(asked) <= collapsed else answers, *rest)

    monkeypatch.setattr(look, "draw_pairs", drawn)
    assert command("dataset=colored_digits", f"skew={skew}", name="diagnose") == 0
    assert diagnosis(tmp_path / "runs" / "1")["verdict"] == verdict
    stored = list((tmp_path / "runs" / "stages").glob("shortcut-*/result.pt"))
    assert len(asked) == stages == len(stored)
    said = capfd.readouterr()
    assert said.err.count("it is trained again from other first weights") == stages - 1
    learnt = "no small network has learnt to tell the classes" not in said.out
    assert learnt == (collapsed < STARTS or verdict == "unlearnt")
    # Other weights at the end: they were others at the start.
    one, two = (torch.load(file, weights_only=True)["shortcut"]["states"]["last"] for file in stored[:2])
    assert not any(torch.equal(one[name], two[name]) for name in one if name.endswith("weight"))


def photographs(folder: Path, count: int, colour: bool = True, flat: bool = False) -> Path:
    random = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            pixels = pixels if colour else pixels[..., :1].repeat(3, axis=2)
            pixels[:] = pixels[0, 0] if flat else pixels
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def own(folder: Path) -> tuple[str, ...]:
    return ("dataset=own_images", f"data_dir={folder}", "image_size=12", "duplicates=keep")


def test_a_dozen_images_of_a_class_are_too_few(command, tmp_path, capfd):
    folder = photographs(tmp_path / "photos", 12)
    assert command(*own(folder), name="diagnose") == 2
    assert "too few training images to tell a shortcut from chance" in capfd.readouterr().err


@pytest.mark.parametrize(("colour", "flat", "note"), [(False, False, "grey"), (True, True, "of one colour throughout")])
def test_grey_images_and_images_of_one_colour(command, tmp_path, capsys, colour, flat, note):
    """Two classes that differ in nothing: no verdict is pretended, and what limits it is said."""
    folder = photographs(tmp_path / "photos", 60, colour, flat)
    assert command(*own(folder), name="diagnose") == 0
    found = diagnosis(tmp_path / "runs" / "1")
    assert found["verdict"] in ("none", "unlearnt") and found["operator"] == ""
    assert note in capsys.readouterr().out.replace("\n", " ")
    if not colour:
        assert "channel_stats" not in found["operators"] and "contrast" in found["operators"]


def test_the_better_of_two_networks_is_asked(run_tiny, task, monkeypatch):
    outcome = run_tiny("method=[shortcut]", "shortcut.epochs=2", task=task)
    given = outcome.artifacts["shortcut"]
    accuracy = {name: outcome.summary[f"easy/{name}/valid"] for name in Shortcut.read_outs}
    assert accuracy[given.read_out] == max(accuracy.values())
    assert set(STAGES["shortcut"].gives) <= set(outcome.artifacts)
    assert torch.equal(outcome.artifacts["bias"].ids, task.train.ids)


@pytest.mark.recipe
def test_where_no_image_goes_against_what_is_learnt(command, tmp_path, capsys):
    """Two classes of one colour each: the network takes every image for its own class, and none can be set against."""
    for label, colour in (("cat", (200, 40, 40)), ("dog", (40, 40, 200))):
        (tmp_path / "plain" / label).mkdir(parents=True)
        for number in range(40):
            pixels = np.random.default_rng(number).normal(0, 8, (12, 12, 3)) + colour
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(tmp_path / "plain" / label / f"{number}.png")
    words = ("dataset=own_images", f"data_dir={tmp_path / 'plain'}", "image_size=12", "features=none")
    assert command(*words, name="diagnose") == 0
    found = diagnosis(tmp_path / "runs" / "1")
    assert found["verdict"] == "named" and found["corrected"] is None
    assert "colours" in capsys.readouterr().out
