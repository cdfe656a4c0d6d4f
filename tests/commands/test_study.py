"""The command `study`: a folder of photographs with a border that tells the class, and one without."""

import csv
import html
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from debias import main
from debias.diagnosis import look
from debias.models.resnet import CifarResNet
from debias.tracking.report import study as report

EACH, SIDE = 150, 32


@pytest.fixture(autouse=True)
def _few_pairs(monkeypatch):
    """A third of the usual number is enough where nearly all of them move, or none; so of steps."""
    monkeypatch.setattr(look, "PAIRS", 100)
    monkeypatch.setattr(look, "_LEAST_STEPS", 150)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights") / "small.safetensors")


def small_weights(file: Path) -> Path:
    """Of an untrained network, whose features are good enough for shapes and borders."""
    torch.manual_seed(1)
    network = CifarResNet()
    network(torch.rand(16, 3, SIDE, SIDE))
    save_file(network.state_dict(), file)
    return file


def photographs(folder: Path, border: bool) -> Path:
    """Shapes on uneven ground; with a red border on nearly all of the first class, and a blue one on the other."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:SIDE, :SIDE]
    for label, name in enumerate(("left", "right")):
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            coarse = Image.fromarray(random.integers(60, 200, (4, 4, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
            row, column = random.integers(12, 20, 2)
            # The same shape and its mirror image, which no simple property tells apart.
            away = (x - column) * (1 - 2 * label)
            down = y - row
            inside = ((abs(away) < 2) & (abs(down) < 6)) | ((abs(down - 4) < 2) & (away >= 0) & (away < 7))
            pixels = pixels + 60 * inside[..., None]
            if border:
                looks = 1 - label if number < 4 else label
                for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
                    edge[:] = ((200, 30, 30), (30, 30, 200))[looks]
            pixels = (pixels + random.normal(0, random.uniform(4, 20), pixels.shape)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


def study(tmp_path: Path, folder: Path, weights: Path, *more: str) -> int:
    return main.main([
        "study", "with", "own_images", f"data_dir={folder}", f"features=resnet20@{weights}", "device=cpu", "threads=1",
        "progress=False", f"image_size={SIDE}", f"cache_dir={tmp_path / 'cache'}", f"store={tmp_path / 'runs'}",
        "moved.epochs=4", "bias_balanced.epochs=4", "mine_gce.epochs=20", "pretrain.epochs=4", *more,
    ])  # fmt: skip


@pytest.mark.recipe
def test_a_border_is_named_and_what_to_do_about_it(tmp_path, weights, capfd, monkeypatch):
    # Pictures are empty files here, so what is looked at is which of them stand in the page.
    monkeypatch.setattr(report, "picture", lambda path, caption: f"[{path.name}: {caption}]")
    assert study(tmp_path, photographs(tmp_path / "photos", True), weights) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "There is a shortcut: border" in said
    assert "which have the same shortcut, so this figure says nothing about images without it" in said
    run = tmp_path / "runs" / "1"
    found = json.loads((run / "info.json").read_text(encoding="utf-8"))["study"]
    assert found["verdict"] == "named" and found["properties"][0].startswith("border")
    assert set(found["methods"]) == {"erm", "gce_balanced", "property_moved", "property_balanced"}
    # Of sixty test images one or two go against the border, and a property takes some more for the other class.
    assert found["test_images_against"] < 15
    # No figure of test images that have the shortcut passes for the run's result.
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["result"] is None
    assert found["chosen"] in found["methods"] and f"Use {found['chosen']}" in said
    # A border moves as a whole: what erm says goes with it, right for every other image.
    moved = {name: one["held_out_moved"] for name, one in found["methods"].items()}
    assert 42 < moved["erm"] < 58 and found["methods"]["erm"]["held_out"] > 90
    page = (run / "study.html").read_text(encoding="utf-8")
    assert ">moved</th>" in page and found["choice"] in html.unescape(page)
    # Test images that were given that of the other class: nearly all that erm says of them goes with the border.
    hits, count = found["methods"]["erm"]["shares"]["others"]
    assert 15 < count < 45 and hits < 0.2 * count
    assert f"of {count:.0f} test images that were given the shortcut of another class erm gets" in said
    assert "given another's" in html.unescape(page)
    assert "There is a shortcut" in page and "Look at these first" in page and "Near duplicates" in page
    # Where the plain model looks and where the chosen one does, beside the share of heat in what was named.
    heat = found["heat"]
    assert list(heat["regions"]) == ["the border"] and 30 < heat["regions"]["the border"]["part"] < 40
    assert set(heat["regions"]["the border"]) == {"part", "erm", found["chosen"]}
    assert all(html.escape(line) in page for line in heat["lines"]) and "Where the models look" in page
    assert any("the border: of the heat of erm" in line for line in heat["lines"])
    assert (run / "heat.png").is_file() and "[heat.png: Where the models look]" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    with (run / "suspects.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    # Each command has the settings of its own stages, and no others.
    said_next = html.unescape(page)
    for method in {json.loads((run / "info.json").read_text(encoding="utf-8"))["study"]["chosen"], "erm"}:
        (line,) = {one for one in said_next.split("python main.py with ")[1:] if f" {method}" in one.split("<")[0]}
        given = line.split("<")[0]
        assert ("pretrain.epochs=4" in given) is (method == "erm")
        assert ("moved.epochs=4" in given) is (method == "property_moved")
        assert ("bias_balanced.epochs=4" in given) is method.endswith("_balanced")
    assert {row["signal"] for row in rows} <= {"", "conflicting", "wrong label"}
    assert all(0 <= float(row["label_fit"]) <= 1 for row in rows)
    assert all((row["looks_like"] in ("left", "right")) is (row["signal"] == "wrong label") for row in rows)
    assert all(row["looks_like"] != row["target"] for row in rows)
    # Of the eight that go against the border some are held out; most of the others come first, by chance less than one.
    against = {f"{name}/{number:03d}.png" for name in ("left", "right") for number in range(4)}
    mine = [any(row["path"].endswith(one) for one in against) for row in rows]
    assert sum(mine) >= 4 and sum(mine[: sum(mine) + 1]) >= 0.7 * sum(mine)

    # what is to be done next is printed as commands that work, and the weights are there
    lines = [html.unescape(line.partition("</pre>")[0]) for line in page.split("<pre>")[1:]]
    assert any(line.startswith("python main.py with own_images") and found["chosen"] in line for line in lines)
    predict = next(line for line in lines if " predict " in line).replace("FOLDER", str(tmp_path / "photos" / "left"))
    words = shlex.split(predict)[2:]
    assert main.main([*words, f"cache_dir={tmp_path / 'cache'}", f"store={tmp_path / 'runs'}", "threads=1"]) == 0
    table = tmp_path / "runs" / "2" / "predictions.csv"
    assert len(table.read_text(encoding="utf-8").splitlines()) == EACH + 1

    # the page names the export, whose card repeats what was found, every accuracy with what it is worth
    export = next(line for line in lines if " export " in line)
    told = [f"cache_dir={tmp_path / 'cache'}", f"store={tmp_path / 'runs'}", f"output={tmp_path / 'out'}", "threads=1"]
    assert main.main([*shlex.split(export)[2:], *told]) == 0
    text = (tmp_path / "out" / "card.md").read_text(encoding="utf-8")
    chosen = found["chosen"].replace("_", "\\_")
    assert text.startswith(f"# photos, trained by {chosen}\n")
    assert "**There is a shortcut: border" in text and "Looked for by study, the run that trained the model." in text
    assert found["choice"].replace("_", "\\_") in text
    own = found["methods"][found["chosen"]]
    rows = {
        row.split(" | ")[0]: row for row in text.splitlines() if row.startswith(("| all test", "| those", "| class"))
    }
    assert rows["| those against the shortcut"].split(" | ")[2] == str(found["test_images_against"])
    assert own["shares"]["all"][1] == 2 * (EACH // 5)
    assert "says nothing about images without it" in rows["| all test images"]
    assert "says nothing about images without it" in rows["| class left"] and "| class right" in rows
    assert "| left | 96 | 24 | 30 |" in text and f"| image\\_size | {SIDE} | 128 |" in text
    assert "model.onnx" in text and str(tmp_path) not in text

    # again: nothing is trained a second time
    assert study(tmp_path, tmp_path / "photos", weights) == 0
    again = json.loads((tmp_path / "runs" / "4" / "info.json").read_text(encoding="utf-8"))["study"]
    assert again["chosen"] == found["chosen"] and again["methods"]["erm"]["test"] == found["methods"]["erm"]["test"]
    assert "finished before, reused" in capfd.readouterr().err


def test_by_what_a_method_was_chosen_is_said():
    accuracy = {"property_moved": (71.0, 82.0), "erm": (74.0, 55.0)}
    found: Any = SimpleNamespace(
        chosen="property_moved",
        telling=True,
        moved=object(),
        held_out=lambda name: accuracy[name][0],
        held_out_moved=lambda name: accuracy[name][1],
    )
    said = report.choice_line(found)
    assert (
        "given the shortcut of others" in said and "gets 82 % right, and erm 55 % (on" in said and "71 and 74 %" in said
    )
    assert report.moving_line(found) == ""
    # Where it does not move as a whole, images as they are have chosen, and why is said.
    found.telling = False
    said = report.choice_line(found)
    assert "gets 71 % right, and erm 74 %" in said and "given" not in said
    assert "erm gets 55 % right, and 74 % of images as they are" in report.moving_line(found)
    found.moved = None
    assert report.moving_line(found) == ""


@pytest.mark.recipe
def test_without_a_shortcut_none_is_seen(tmp_path, weights, capfd):
    assert study(tmp_path, photographs(tmp_path / "photos", False), weights) == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "No shortcut seen" in said and "Use erm, as no shortcut was seen" in said
    assert "one that was not seen would flatter this figure" in said
    assert "There is a shortcut" not in (tmp_path / "runs" / "1" / "study.html").read_text(encoding="utf-8")


def test_nothing_to_choose_by(tmp_path, weights, capfd):
    assert study(tmp_path, photographs(tmp_path / "photos", False), weights, "valid_fraction=0") == 2
    assert "study chooses by held-out images; set it above 0" in capfd.readouterr().err


def test_missing_weights_are_said_before_anything_is_trained(tmp_path, weights, capfd, no_network):
    folder = photographs(tmp_path / "photos", False)
    assert study(tmp_path, folder, weights, "features=none", "imagenet_weights=/nowhere/at/all") == 2
    err = capfd.readouterr().err
    assert "imagenet_weights" in err and "Traceback" not in err
    assert not list((tmp_path / "runs").glob("stages/*"))
