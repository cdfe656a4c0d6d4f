"""The command: which run, what is wrong with it in a line, and images that are not there any more."""

import json
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch

from debias import main
from debias.commands.review import OPTIONS, find_run, load_session, parse
from debias.data.reviewed import MARKS
from debias.errors import UserError
from debias.review.table import OF_FILES
from debias.tracking.pictures.suspects import write_suspects
from debias.training.artifacts import ConflictScore
from tests.review.test_marks import start


def refused(capsys, *words):
    assert main.main(["review", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    return said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "review is of one run: python main.py review RUN"),
        (["1", "2"], "review is of one run"),
        (["9"], "there is no run"),
        (["nowhere/9"], "there is no run nowhere/9"),
        (["1", "prot=8000"], "review has no option 'prot'; did you mean port"),
        (["1", "port=80000"], "setting port: 80000 is out of range"),
        (["1", "port=x"], "setting port: 'x' is not accepted"),
        (["1", "marks=nowhere.csv"], "nowhere.csv: cannot be read"),
        (["1", "data_dir=nowhere"], "the images of run .*1 cannot be loaded again: data_dir=nowhere"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(mined, capsys, words, says):
    assert re.search(says, refused(capsys, *words, f"store={mined.store}", "threads=1"))


def test_runs_that_can_be_reviewed_are_named(mined, capsys):
    assert f"runs of {mined.store} with suspects: 1" in refused(capsys, "7", f"store={mined.store}")
    shutil.copytree(mined.folder, mined.store / "2")
    (mined.store / "2" / "suspects.csv").unlink()
    said = refused(capsys, "2", f"store={mined.store}")
    assert "has no suspects.csv, as it mined nothing; `python main.py mine with …` does" in said and said.endswith(
        ": 1"
    )


def test_a_run_is_named_by_number_or_folder(mined, monkeypatch):
    assert find_run("1", mined.store) == mined.folder == find_run(str(mined.folder), Path("elsewhere"))
    monkeypatch.chdir(mined.store)
    assert find_run("1", Path("nowhere")) == Path("1")
    run, options = parse(["with", "store=55", "1", "port=8000", "open=True"])
    assert run == "1" and (options["store"], options["port"], options["open"]) == ("55", 8000, True)


def test_images_that_are_gone_or_changed_are_listed(mined, served, capfd):
    files = [Path(name) for name in mined.task().files]
    with served(mined) as ask:
        ask.mark(_0="conflicting", _1="fine", _2="drop")
    files[0].unlink()
    files[1].write_bytes(files[3].read_bytes()[:-2] + b"z\xff\xd9")
    (mined.photos / "cow" / "moved.jpg").write_bytes(files[40].read_bytes())
    files[40].unlink()
    with served(mined) as ask:
        state = ask("state")[1]
        missing = {Path(name).name: why for name, why in state["missing"]}
        assert missing == {files[0].name: "is gone", files[1].name: "is another image now"}
        assert len(state["id"]) == 62 and not {0, 1} & set(state["id"])
        assert [ask(f"{what}/0")[0] for what in ("thumb", "image", "near")] == [404] * 3
        place = state["id"].index(int(mined.task().train.ids[0]) + 40)
        assert Path(state["name"][place]).name == "moved.jpg" and ask(f"thumb/{state['id'][place]}")[0] == 200
        assert ask.session.count() == 1
    # What was marked of them is kept, in case they come back.
    assert {json.loads(line).get("id") for line in (mined.folder / "review.jsonl").read_text().splitlines()} >= {
        0,
        1,
        2,
    }


def test_a_run_whose_images_are_all_gone(mined, capsys):
    for path in mined.photos.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-2] + b"q\xff\xd9")
    said = refused(capsys, "1", f"store={mined.store}")
    assert "none of its 64 images is a training image of own_images now" in said and "is another image now" in said


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("id,target,score\n1,camel,0.5", "no column 'suspect'"),
        ("id,target,score,suspect\n1,camel,much,1", "line 2"),
        ("id,target,score,suspect\n1,camel,nan,1", "line 2"),
        ("id,target,score,suspect\n1,camel,1,1\n1,camel,1,1", "line 3"),
        ("id,target,score,suspect", "none of its 0 images"),
    ],
)
def test_a_damaged_table_is_refused(mined, capsys, lines, says):
    (mined.folder / "suspects.csv").write_text(lines + "\n")
    assert says in refused(capsys, "1", f"store={mined.store}")


@pytest.mark.parametrize(
    "config", ["{", "[]", "{}", '{"dataset": "unknown", "seed": 1}', '{"dataset": "own_images", "seed": 1}']
)
def test_a_damaged_record_is_refused(mined, capsys, config):
    (mined.folder / "config.json").write_text(config)
    refused(capsys, "1", f"store={mined.store}")


def test_data_that_is_not_files_can_be_reviewed(mined, tiny, task, tmp_path, served):
    config = tiny()
    (mined.folder / "config.json").write_text(json.dumps(config, default=str))
    score = torch.linspace(0, 1, len(task.train))
    found = ConflictScore(task.train.ids, score, 0.9, "mine_gce", torch.empty(0))
    write_suspects(mined.folder, task, found, sheet=False)
    with served(mined) as ask:
        state = ask("state")[1]
        assert len(state["id"]) == len(task.train) and state["missing"] == [] and state["pixels"] == 28
        number = state["id"][0]
        assert number == int(task.train.ids[-1]) and ask(f"thumb/{number}")[1].startswith(b"\x89PNG")
        ask.mark(**{f"_{number}": "fine"})
    table = (mined.folder / "reviewed.csv").read_text().splitlines()
    assert (
        table[0] == "id,target,suspect,mark,was" and f"{number},{state['classes'][state['target'][0]]},0,fine," in table
    )


def test_interrupted_it_ends_with_a_line(mined):
    process, address = start(mined)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in out + err
    assert out.strip().splitlines()[-1] == f"review ended: 0 of 64 images marked, {mined.folder / 'reviewed.csv'}"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", int(address.split(":")[2].split("/")[0])), timeout=5)


def test_a_port_in_use(mined, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port={port}: cannot be used" in refused(
            capsys, "1", f"store={mined.store}", f"port={port}", "threads=1"
        )
    # The folder is free again.
    load_session(mined.folder, {"data_dir": None, "cache_dir": None, "threads": 1, "marks": None}).marks.close()


def test_a_journal_that_cannot_be_written_to(mined, capsys):
    (mined.folder / "review.jsonl").mkdir()
    assert "review.jsonl: cannot be used" in refused(capsys, "1", f"store={mined.store}")


def test_the_command_is_helped_with(capsys):
    assert main.main(["help", "review"]) == 0
    assert "looked at and marked" in capsys.readouterr().out
    assert main.main(["review", "--help"]) == 0
    assert "port=0: port of the page" in capsys.readouterr().out
    assert main.main(["reveiw", "1"]) == 2
    assert "did you mean review" in capsys.readouterr().err
    with pytest.raises(UserError, match="of one run"):
        parse([])


def test_the_document_names_every_option_key_and_column():
    text = (Path(__file__).resolve().parents[2] / "docs" / "review.md").read_text(encoding="utf-8")
    for name in OPTIONS:
        assert f"`{name}=" in text, name
    for name in (*OF_FILES, "bias"):
        assert f"`{name}`" in text, name
    script = (Path(__file__).resolve().parents[2] / "debias" / "review" / "page" / "page.js").read_text(
        encoding="utf-8"
    )
    for mark in MARKS:
        (key,) = re.findall(rf'\b(\w): "{mark}"', script)
        assert re.search(rf"^\| {key}\b.*\| {mark}", text, flags=re.MULTILINE), mark
