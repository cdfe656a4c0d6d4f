"""The command `export`, from training to another program: its files by the README's lines, its card, and its faults."""

import html
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from debias import main
from debias.commands.export import own_images
from debias.models.export import final_model, load_model
from debias.tracking.report.beside import look_beside
from tests.photos import save

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = next(block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "model.onnx" in block)
HOSTILE = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) | `a`"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one class of a hostile name, and in runs/1 a model of them."""
    folder = tmp_path_factory.mktemp("export")
    for target, name in enumerate((HOSTILE, "camel")):
        for number in range(20):
            save(folder / "my photos" / name / f"{number}.jpg", target, target, number)
    assert main.main(["with", *words(folder), f"data_dir={folder / 'my photos'}", *trained()]) == 0
    return folder


def words(place: Path) -> list[str]:
    own = ("device=cpu", "threads=1", "progress=False", "features=none")
    return ["own_images", *own, f"cache_dir={place / 'cache'}", f"store={place / 'runs'}"]


def trained() -> list[str]:
    return ["erm", "image_size=16", "pretrain.network=cnn", "pretrain.epochs=2", "pictures=False"]


def export(place: Path, out: Path, *more: str, weights: Path | None = None) -> int:
    file = weights or place / "runs" / "1" / "weights.safetensors"
    return main.main(["export", "with", *words(place), f"checkpoint={file}", f"output={out}", *more])


@pytest.fixture(scope="module")
def out(place: Path) -> Path:
    assert export(place, place / "out") == 0
    return place / "out"


def test_every_file_is_there_and_the_readmes_lines_give_its_logits(out, monkeypatch):
    names = {"model.safetensors", "model.json", "model.pt2", "model.onnx", "card.md", "card.html"}
    assert {path.name for path in out.iterdir()} == names
    monkeypatch.chdir(out.parent)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    found: dict = {}
    exec(LINES, found)
    assert len([line for line in LINES.splitlines() if line.startswith(("about", "images", "of_"))]) == 5
    expected = found["of_tensors"].detach()
    assert expected.shape == (2, 2) and expected.std() > 0
    torch.testing.assert_close(found["of_program"].detach(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(found["of_onnx"]), expected, atol=1e-4, rtol=1e-4)


def test_the_cards_lines_give_what_predict_gives(place, out, tmp_path, monkeypatch):
    photo = place / "my photos" / "camel" / "3.jpg"
    (tmp_path / "one").mkdir()
    shutil.copy(photo, tmp_path / "one" / "photo.jpg")
    told = [*words(place), f"checkpoint={place / 'runs' / '1' / 'weights.safetensors'}"]
    assert main.main(["predict", "with", *told, f"folder={tmp_path / 'one'}", f"output={tmp_path}"]) == 0
    last = (tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines()[1].split(",")
    expected = [float(value) for value in last[-2:]]

    shutil.copytree(out, tmp_path / "moved")
    shutil.copy(photo, tmp_path / "moved" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "moved")
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])
    blocks = re.findall(r"```python\n(.*?)```", (out / "card.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 4
    page = (out / "card.html").read_text(encoding="utf-8")
    assert [html.unescape(one) for one in re.findall("<pre>(.*?)</pre>", page, flags=re.DOTALL)] == [
        block.rstrip() for block in blocks
    ]
    found: dict = {}
    exec(blocks[0], found)
    for block in blocks[1:]:
        exec(block, found)
        p = torch.softmax(torch.as_tensor(found.pop("logits")).detach(), 1)[0]
        np.testing.assert_allclose(p, expected, atol=1e-4)


def test_the_card_has_what_the_run_recorded(place, out):
    text = (out / "card.md").read_text(encoding="utf-8")
    assert "# my photos, trained by erm" in text and "| camel | 16 | 4 |" in text
    assert "| pretrain.epochs | 2 |" in text and str(place) not in text
    info = json.loads((place / "runs" / "1" / "info.json").read_text(encoding="utf-8"))
    share = re.search(r"(\d+) % \(\d+ to \d+\) of 8 test images are right; test images may have a shortcut", text)
    assert share is not None and abs(int(share[1]) - info["summary"]["model/average/last"]) <= 0.5
    page = (out / "card.html").read_text(encoding="utf-8")
    assert "<img" not in page and html.escape(HOSTILE) in page
    assert load_model(out).classes == [HOSTILE, "camel"]


def test_the_users_own_images_where_they_are(place, tmp_path):
    """By the setting, else by the record of the run; broken ones are left out."""
    weights = place / "runs" / "1" / "weights.safetensors"
    model = final_model(weights)
    record = look_beside(weights, model.description).record
    images, whose = own_images(model, {"data_dir": None, "threads": 1}, record)
    assert images is not None and images.shape == (5, 3, 16, 16) and 0 <= images.min() < images.max() <= 1
    assert whose == "5 of my photos, the others random"
    few = tmp_path / "few"
    few.mkdir()
    (few / "broken.jpg").write_bytes(b"x")
    assert own_images(model, {"data_dir": str(few), "threads": 1}, record)[0] is None
    save(few / "one.jpg", 0, 0, 1)
    images, whose = own_images(model, {"data_dir": str(few), "threads": 1}, record)
    assert images is not None and len(images) == 1 and whose == "1 of few, the others random"
    for settings in ({"data_dir": str(tmp_path / "nowhere"), "threads": 1}, {"data_dir": None, "threads": 1}):
        assert own_images(model, settings, None) == (None, "all of them random")


def test_a_file_that_lies_alone(place, tmp_path, capfd):
    shutil.copy(place / "runs" / "1" / "weights.safetensors", tmp_path)
    assert export(place, tmp_path / "out", weights=tmp_path / "weights.safetensors") == 0
    said = capfd.readouterr().err
    assert "there is no record of a run beside the weights" in said and "on 5 images (all of them random)" in said
    assert "The file holds no figures" in (tmp_path / "out" / "card.md").read_text(encoding="utf-8")


def test_without_onnx_a_line_says_so_and_no_file_of_an_earlier_model_stays(place, tmp_path, capfd, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"of another model")
    # So Python says that a package is not there.
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert export(place, tmp_path) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "model.onnx is left out: it needs onnxscript: pip install onnxscript" in said
    assert "on 10 images (5 of my photos, the others random)" in said
    assert not (tmp_path / "model.onnx").exists() and (tmp_path / "model.pt2").exists()
    assert "model.onnx" not in (tmp_path / "card.md").read_text(encoding="utf-8")


@pytest.mark.recipe
def test_groups_of_a_run_with_bias_labels(tmp_path, cache_dir):
    told = ["device=cpu", "threads=1", "progress=False", f"cache_dir={cache_dir}", f"store={tmp_path / 'runs'}"]
    line = ["with", "colored_digits", "skewed1", "erm", "limit=600", "pretrain.epochs=2", "pictures=False", *told]
    assert main.main(line) == 0
    weights = tmp_path / "runs" / "1" / "weights.safetensors"
    assert main.main(["export", "with", f"checkpoint={weights}", f"output={tmp_path / 'out'}", *told]) == 0
    text = (tmp_path / "out" / "card.md").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "runs" / "1" / "info.json").read_text(encoding="utf-8"))["summary"]
    for name in ("unbiased", "aligned", "conflicting", "worst"):
        assert f"| {name} | {summary[f'model/{name}/last']:.1f} % |" in text
    assert "5 % of the training images conflict" in text
    rows = re.findall(r"^\| \d \| [\w ]+ \| (\d+) % \(\d+ to \d+\) \| \d+ \|$", text, flags=re.MULTILINE)
    assert len(rows) > 20 and [int(row) for row in rows] == sorted(int(row) for row in rows)
    assert abs(int(rows[0]) - summary["model/worst/last"]) <= 0.5
