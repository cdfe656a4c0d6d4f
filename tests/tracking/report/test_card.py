"""The card of a model: what it says with and without a record, and that names from strangers become no markup."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from debias.data.photos.decode import decode
from debias.data.preparation import Preparation
from debias.models.checkpoint import save_weights
from debias.models.export import final_model
from debias.models.registry import build_classifier, seeded
from debias.tracking.report.beside import Beside, look_beside
from debias.tracking.report.blocks import Code, Heading, Listed, Paragraph, markdown, page
from debias.tracking.report.card import bare, card, write_card
from debias.tracking.report.card_use import code
from debias.tracking.results.tables import Table
from debias.training.artifacts import TrainedModel

MODEL = {"backbone": "mlp3", "shape": [3, 16, 16], "classes": 2}
HOSTILE = (
    "\"><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>",
    "[x](javascript:alert(1)) ![y](http://evil.example/y) <http://evil.example/z> `a` **b** _c_ | d \\ www.evil.ex",
)
# Each at the beginning of a line would be a heading, a list, a quotation, a rule or a table.
STARTS = (
    "# a",
    "* a",
    "- a",
    "+ a",
    "1. a",
    "1) a",
    "> a",
    "---",
    "===",
    "| a | b |",
    "    a",
    "```",
    "~~~",
    "<b>",
    "&lt;",
)


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def tokens(text: str) -> list:
    """Of Markdown with raw HTML and tables, as GitHub reads it, those within lines too."""
    found = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    return [one for token in found for one in (token, *(token.children or ()))]


def shown(text: str) -> str:
    return "".join(one.content for one in tokens(text) if one.type == "text")


@pytest.fixture
def folder(tmp_path):
    """A run's folder: weights of two classes, Sacred's files and figures."""
    run = tmp_path / "runs" / "7"
    run.mkdir(parents=True)
    leave(run, ("cow", "camel"))
    return run


def leave(run, classes, trained=None, study=None):
    about = {
        "dataset": "own_images",
        "method": "erm",
        "seed": "3",
        "classes": json.dumps(classes),
        "preparation": json.dumps({"size": 16, "framing": "pad", "margin": 1.0}),
        "normalise": json.dumps({"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}),
    } | (trained or {})
    state = seeded(lambda: build_classifier(MODEL), 2).state_dict()
    save_weights(run / "weights.safetensors", None, TrainedModel(MODEL, {"last": state}, "model", "pretrain"), about)
    config = {
        "dataset": "own_images", "method": "erm", "seed": 3, "data_dir": "/home/somebody/secret/photos",
        "features": "none", "valid_fraction": 0.1, "framing": "pad", "labels": "/home/somebody/secret/labels.csv",
        "pretrain": {"epochs": 5, "network": "mlp3"}, "threads": 1, "progress": False,
    }  # fmt: skip
    info = {
        "summary": {"model/average/last": 90.0},
        "device": "cpu, 1 threads",
        "final": {"stage": "pretrain", "read_out": "model"},
        "data": {
            "folder": "photos", "content": "abc", "conflicting": None,
            "images": {"train": [180, 90], "valid": [20, 10], "test": [50, 25]},
        },
    } | ({} if study is None else {"study": study})  # fmt: skip
    state = {"command": "train", "status": "COMPLETED", "start_time": "2026-01-31T12:00:00", "artifacts": [
        "matrices.json", "weights.safetensors"]}  # fmt: skip
    matrices = {"pretrain": {"last": {"model": [[[45], [20]], [[50], [25]]]}, "oracle": {"model": [[[50], [25]]] * 2}}}
    for name, value in {"run": state, "config": config, "info": info, "matrices": matrices}.items():
        (run / f"{name}.json").write_text(json.dumps(value))


def of(run):
    description = final_model(run / "weights.safetensors").description
    return description, look_beside(run / "weights.safetensors", description)


def written(run, out):
    out.mkdir(exist_ok=True)
    paths = write_card(out, *of(run))
    assert [path.name for path in paths] == ["card.md", "card.html"]
    return [path.read_text(encoding="utf-8") for path in paths]


def test_what_the_record_of_a_run_gives(folder, tmp_path):
    text, html = written(folder, tmp_path / "out")
    assert text.startswith("# photos, trained by erm\n")
    assert "| cow | 180 | 20 | 50 |" in text and "| all | 270 | 30 | 75 |" in text
    assert "10 % of the images that are no test images were held out (30)." in text
    assert "| pretrain.epochs | 5 |" in text and "| valid\\_fraction | 0.1 | 0.0 |" in text
    assert "| framing | pad | crop |" in text and "| labels | labels.csv | None |" in text
    # of this machine nothing, and no setting that is at its default or decides no figure
    assert "secret" not in text + html and "somebody" not in text + html
    assert "| threads |" not in text and "| seed |" not in text
    # 65 of 75: with its interval and, in the same line, what it is worth
    (line,) = [line for line in text.splitlines() if line.startswith("87 % (77 to 93) of 75 test images are right")]
    assert "may have a shortcut in common with the training images, which was not looked for" in line
    rows = [line for line in text.splitlines() if line.startswith(("| cow | 90 %", "| camel | 80 %"))]
    assert rows[0].startswith("| cow | 90 % (79 to 96) | 50 | ") and rows[1].startswith(
        "| camel | 80 % (61 to 91) | 25 "
    )
    assert all("may have a shortcut" in row for row in rows)
    # the best epoch on test images is nobody's
    assert "100 %" not in text
    assert "last epoch: no image was used to choose an epoch" in text and "Seed: 3." in text
    for words in (
        "started 2026-01-31",
        "cpu, 1 threads",
        "held out (30)",
        "It was given no bias labels",
        "90 % (79 to 96)",
    ):
        assert words in html


def test_a_lone_file_says_what_it_knows_and_what_is_missing(folder, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "weights.safetensors", alone)
    text, _ = written(alone, tmp_path / "out")
    assert text.startswith("# own\\_images, trained by erm\n")
    assert "**Not complete.** There is no record of a run beside the weights" in text
    assert "How many images there were of each class is not recorded." in text
    assert "Which settings were changed is not recorded" in text and "The file holds no figures." in text
    assert "cow, camel" in text and "16 x 16" in text and "%" not in text.split("## How to use it")[0]


@pytest.mark.parametrize(
    ("trained", "what"), [({"method": "lff"}, "method"), ({"seed": "4"}, "seed"), ({"dataset": "bar"}, "dataset")]
)
def test_the_record_of_another_run_is_not_taken_for_its_own(folder, tmp_path, trained, what):
    other = tmp_path / "other"
    other.mkdir()
    leave(other, ("cow", "camel"), trained)
    shutil.copy(other / "weights.safetensors", folder / "weights.safetensors")
    text, _ = written(folder, tmp_path / "out")
    assert f"The record beside the weights is of another run (its {what} is another)" in text
    assert "| cow |" not in text and "87 %" not in text


def test_a_file_that_the_run_did_not_leave_is_not_its_own(folder, tmp_path):
    shutil.copy(folder / "weights.safetensors", folder / "copied.safetensors")
    description = final_model(folder / "copied.safetensors").description
    assert look_beside(folder / "copied.safetensors", description).record is None


@pytest.mark.parametrize("file", ["info", "matrices", "config", "run"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "[" * 100_000, '{"summary": 3, "data": [1], "study": {}}'])
def test_damaged_records_give_a_card_all_the_same(folder, tmp_path, file, content):
    (folder / f"{file}.json").write_text(content)
    text, html = written(folder, tmp_path / "out")
    assert "## How to use it" in text and "How to use it" in html


def test_a_study_or_diagnosis_of_the_same_images_is_found_in_the_store(folder, tmp_path):
    found = {
        "verdict": "named", "operator": "border", "words": "the shortcut is in the border", "sure": "very sure",
        "doubt": "nothing would",
        "operators": {"border": {"transferred": [0.9, 0.8, 0.95], "chance": 0.1, "pairs": 300}},
        "properties": {
            "a": {"accuracy": 0.6, "low": 0.5, "high": 0.7, "images": 200, "chance": 0.5},
            "border": {"accuracy": 0.97, "low": 0.9, "high": 0.99, "images": 200, "chance": 0.5},
        },
    }  # fmt: skip
    for number, content in ((3, "abc"), (9, "of other images")):
        other = folder.parent / str(number)
        other.mkdir()
        leave(other, ("cow", "camel"))
        info = json.loads((other / "info.json").read_text())
        info |= {"diagnosis": found | {"words": f"said by {number}"}, "data": {"content": content}}
        (other / "info.json").write_text(json.dumps(info))
    text, _ = written(folder, tmp_path / "out")
    assert "**There is a shortcut.** Said by 3." in text and "Looked for by train, run 3, on the same images." in text
    assert "90 % (80 to 95) of 300 images are taken for the class" in text
    # The best property first, with n and interval.
    assert text.index("| border | 97 % (90 to 99) | 200 | 50 % |") < text.index("| a | 60 % (50 to 70) | 200 | 50 % |")
    rows = [line for line in text.splitlines() if line.startswith(("87 % ", "| cow | 90 %", "| camel | 80 %"))]
    assert len(rows) == 3 and all("test images have the same shortcut, so this says nothing" in row for row in rows)


def test_groups_with_bias_labels(folder, tmp_path):
    info = json.loads((folder / "info.json").read_text())
    info["data"] |= {"biases": ["grass", "sand"], "conflicting": 0.02}
    info["summary"] = {"model/unbiased/last": 62.5, "model/worst/last": 10.0, "model/unbiased/oracle": 99.0}
    (folder / "info.json").write_text(json.dumps(info))
    counts = [[[90, 1], [5, 95]], [[100, 10], [10, 100]]]
    (folder / "matrices.json").write_text(json.dumps({"pretrain": {"last": {"model": counts}}}))
    text, _ = written(folder, tmp_path / "out")
    rows = [line for line in text.splitlines() if re.match(r"\| (cow|camel) \| (grass|sand) \|", line)]
    # The worst group first.
    assert rows[0] == "| cow | sand | 10 % (2 to 40) | 10 |" and rows[-1].startswith(
        "| camel | sand | 95 % (89 to 98) | 100"
    )
    assert "| unbiased | 62.5 % | mean over the groups |" in text and "99.0" not in text
    assert "2 % of the training images conflict" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_strangers_become_no_markup(folder, tmp_path, name):
    leave(folder, (name, "camel"))
    info = json.loads((folder / "info.json").read_text())
    info["data"]["folder"] = name
    (folder / "info.json").write_text(json.dumps(info))
    text, html = written(folder, tmp_path / "out")
    parsed = Parsed(html)
    allowed = "html head meta title style body div h1 h2 p b ul li pre table caption thead tbody tr th td"
    assert {tag for tag, _ in parsed.tags} <= set(allowed.split())
    assert not any(key.startswith("on") or key in ("src", "href") for _, given in parsed.tags for key in given)
    assert name in parsed.texts  # a cell of the table, letter by letter
    kinds = {one.type for one in tokens(text)}
    assert not kinds & {"html_inline", "html_block", "link_open", "image", "em_open", "code_inline", "s_open"}
    cells = [one.content for one in tokens(text) if one.type == "text"]
    assert shown(text).count(name) >= 3, cells


@pytest.mark.parametrize("start", STARTS)
def test_no_text_begins_a_block_of_markdown(start):
    blocks = [Paragraph(start), Listed([start, "b"]), Table("", ["x", "y"], [[start, "1"]], text_columns=("x",))]
    text = markdown(start, blocks)
    kinds = [one.type for one in tokens(text)]
    assert kinds.count("heading_open") == 1 and kinds.count("bullet_list_open") == 1 and kinds.count("table_open") == 1
    assert kinds.count("list_item_open") == 2 and kinds.count("td_open") == 2
    assert not {"blockquote_open", "ordered_list_open", "hr", "fence", "code_block", "html_block", "html_inline"} & set(
        kinds
    )
    assert shown(text).count(start.strip()) == 4


def test_code_cannot_end_its_block():
    text = "a = '```'\n```\n# no heading <script>"
    blocks = [Heading("h"), Code(text, "python")]
    (fence,) = [one for one in tokens(markdown("t", blocks)) if one.type == "fence"]
    assert fence.content == f"{text}\n" and fence.info == "python"
    parsed = Parsed(page("t", blocks))
    assert "script" not in {tag for tag, _ in parsed.tags} and text in parsed.texts


@pytest.mark.parametrize(
    ("value", "shown_as"),
    [
        ("resnet20@/home/me/my files/small.safetensors", "resnet20@small.safetensors"),
        ("timm/resnet26@/w/x@y/z.pt", "timm/resnet26@z.pt"),
        ("/home/me@work/labels.csv", "labels.csv"),
        ("../clients/labels.csv", "labels.csv"),
        ("crop", "crop"),
        (0.5, "0.5"),
    ],
)
def test_values_are_shown_without_folders(value, shown_as):
    assert bare(value) == shown_as


@pytest.mark.parametrize("framing", ["crop", "stretch", "pad"])
@pytest.mark.parametrize("size", [(40, 30), (30, 40), (16, 16)])
def test_the_code_prepares_images_as_this_program_does(tmp_path, monkeypatch, framing, size):
    description = {
        "preparation": {"size": 16, "framing": framing, "margin": 1.25 if framing == "crop" else 1.0},
        "input": {"size": 16, "channels": 3},
    }
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=turned())
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(code(description), found)
    expected = decode((tmp_path / "photo.jpg").read_bytes(), Preparation(**description["preparation"]))
    assert found["images"].shape == (1, 3, 16, 16) and found["images"].dtype == np.float32
    np.testing.assert_allclose(found["images"][0].transpose(1, 2, 0) * 255, np.asarray(expected), atol=1.01)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_methods_with_a_paper_name_it(folder):
    description, beside = of(folder)
    description["trained"]["method"] = "lff"
    _, blocks = card(description, Beside())
    (line,) = [one for one in blocks if isinstance(one, Paragraph) and one.link]
    assert line.link == "https://arxiv.org/abs/2007.02561" and "Nam et al., NeurIPS 2020" in line.text
    assert "<https://arxiv.org/abs/2007.02561>" in markdown("t", [line])
    assert 'href="https://arxiv.org/abs/2007.02561"' in page("t", [line])
    # an own order of stages is none of the papers'
    description["trained"]["method"] = "['mine_gce', 'bias_balanced']"
    _, blocks = card(description, beside)
    assert any(isinstance(one, Listed) and one.points[0].startswith("mine_gce: ") for one in blocks)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_browser_shows_the_page_and_runs_nothing(folder, tmp_path):
    leave(folder, (HOSTILE[0], "camel"))
    written(folder, tmp_path / "out")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
         (tmp_path / "out" / "card.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    parsed = Parsed(done.stdout)
    assert HOSTILE[0] in parsed.texts and not {"script", "img"} & {tag for tag, _ in parsed.tags}
