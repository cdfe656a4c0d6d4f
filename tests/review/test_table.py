"""reviewed.csv as other commands read it: `mine_file` by path and content, `labels` without what was marked."""

import csv
from pathlib import Path

import pytest
import torch

from debias.errors import UserError
from debias.harmless import cell
from debias.review.items import Item
from debias.review.table import Mark, Row, as_text, read_marks


@pytest.fixture
def reviewed(mined, served):
    """A table with one mark of each kind, and the images' names by mark."""
    marks = {0: "fine", 1: "conflicting", 2: "drop", 3: "wrong label", 10: "unsure", 33: "conflicting"}
    with served(mined) as ask:
        ask.mark(**{f"_{number}": mark for number, mark in marks.items()})
        body = {"marks": [{"id": 5, "mark": "wrong label", "label": "cow"}]}
        assert ask("marks", body)[0] == 200
    files = mined.task().files
    return mined.folder / "reviewed.csv", {number: Path(files[number]) for number in (*marks, 5)}


def flagged(run_tiny, task, path, **also):
    words = ("method=[mine_file]", f"mine_file.path={path}", "fresh=True")
    found = run_tiny(*words, task=task, **also).artifacts["conflict_score"]
    return {Path(task.files[int(n)]).name for n, score in zip(found.ids, found.score, strict=True) if score > 0.5}


def rows(path):
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_what_is_written(mined, reviewed):
    path, _ = reviewed
    found = {row["path"]: row for row in rows(path)}
    task = mined.task()
    assert len(found) == 80 and [row["split"] for row in found.values()] == ["train"] * 64 + ["test"] * 16
    below = [str(Path(name).relative_to(mined.photos)) for name in task.files]
    assert list(found)[:64] == [below[n] for n in task.train.ids.tolist()]
    assert [found[below[n]]["content"] for n in task.train.ids.tolist()] == [task.digests[n] for n in task.train.ids]
    # Flags: those of the miner (0, 10, 20, 30, 40) as marks correct them.
    assert {n for n in range(64) if found[below[n]]["suspect"] == "1"} == {1, 10, 20, 30, 33, 40}
    assert found[below[5]]["target"] == "cow" and found[below[5]]["was"] == "camel"
    assert [row["was"] for row in found.values()].count("") == 79


def test_mine_file_reads_it_wherever_the_files_are_now(mined, reviewed, run_tiny):
    path, names = reviewed
    task = mined.task()
    lines: list[str] = []
    before = flagged(run_tiny, task, path, say=lines.append)
    assert before == {Path(task.files[n]).name for n in (1, 10, 20, 30, 33, 40)}
    assert any("2 images marked drop or wrong label count as aligned; labels=reviewed.csv" in line for line in lines)
    assert not any("no row" in line or "skipped" in line for line in lines)
    # A file is added in front, a marked one is moved, and one that is not marked is removed.
    new = mined.photos / "camel" / "a new one.jpg"
    new.write_bytes(names[0].read_bytes()[:-2] + b"x\xff\xd9")
    names[1].rename(names[1].with_name("zz moved.jpg"))
    Path(task.files[7]).unlink()
    now = mined.task()
    lines = []
    after = flagged(run_tiny, now, path, say=lines.append)
    assert after == before - {names[1].name} | {"zz moved.jpg"}
    assert any("1 training images have no row and count as aligned" in line for line in lines)


def test_marked_images_that_are_held_out_now_are_no_error(mined, reviewed, run_tiny):
    path, _ = reviewed
    task = mined.task(valid_fraction=0.5)
    held = {Path(task.files[n]).name for n in task.valid.ids.tolist()}
    lines: list[str] = []
    found = flagged(run_tiny, task, path, say=lines.append)
    wanted = {Path(task.files[n]).name for n in (1, 10, 20, 30, 33, 40)}
    assert found == wanted - held and len(wanted & held) > 0
    assert any(f"{len(wanted & held)} marked images are among the held-out ones now" in line for line in lines)


def test_labels_leaves_out_what_is_marked(mined, reviewed):
    path, names = reviewed
    before, after = mined.task(), mined.task(labels=str(path))
    gone = {str(names[2]), str(names[3])}
    assert set(before.files) - set(after.files) == gone and len(after.train) == 62
    # The same test images, and the others in their order.
    assert after.other_files == before.other_files
    assert list(after.files) == [name for name in before.files if name not in gone]
    assert (
        "1 images marked drop are left out" in after.notes and "1 images marked wrong label are left out" in after.notes
    )
    label = after.target_names[int(after.train.target[after.files.index(str(names[5]))])]
    assert label == "cow" and after.target_names[int(before.train.target[5])] == "camel"


def test_labels_finds_files_that_were_moved(mined, reviewed):
    path, names = reviewed
    before = mined.task()
    new = names[0].with_name("zz moved.jpg")
    names[0].rename(new)
    after = mined.task(labels=str(path))
    assert str(new) in after.files and len(after.train) == 62 and after.content is not None
    assert "1 files were moved since they were reviewed, and are known by their content" in after.notes
    assert after.train.images[torch.tensor([0])].equal(before.train.images[torch.tensor([0])])
    new.unlink()
    with pytest.raises(UserError, match="no such file"):
        mined.task(labels=str(path))


def test_labels_refuses_marks_that_are_not_known(mined, reviewed):
    path, _ = reviewed
    text = path.read_text()
    path.write_text(text.replace(",drop,", ",Drop,"))
    with pytest.raises(UserError, match="line 4: mark 'Drop' is none of .*; did you mean drop"):
        mined.task(labels=str(path))
    path.write_text("\n".join([text.splitlines()[0], *(f"{n},camel,train,0,drop,," for n in "ab")]) + "\n")
    with pytest.raises(UserError, match="every image is marked"):
        mined.task(labels=str(path))


def test_bias_labels_are_kept(mined, served, tmp_path):
    """Of data that has them, so that the table is the same data."""
    labels = tmp_path / "labels.csv"
    lines = [f"{path.relative_to(mined.photos)},{path.parent.name},{('grass', 'sand')[i % 2]}"
             for i, path in enumerate(sorted(mined.photos.rglob("*.jpg")))]  # fmt: skip
    labels.write_text("\n".join(["path,target,bias", *lines]) + "\n")
    mined.config["labels"] = str(labels)
    config = (mined.folder / "config.json").read_text().replace('"labels": null', f'"labels": "{labels}"')
    (mined.folder / "config.json").write_text(config)
    mined.mine()
    with served(mined):
        pass
    again, before = mined.task(labels=str(mined.folder / "reviewed.csv")), mined.task()
    assert again.bias_names == before.bias_names
    assert again.train.bias.equal(before.train.bias) and again.test.bias.equal(before.test.bias)


def test_cells_are_harmless_and_come_back(tmp_path):
    names = ["=1+1.jpg", "-a.jpg", "@b.jpg", 'plain, with "quotes".jpg', "+c.jpg"]
    items = [Item(n, "=cmd", 0.5, False, 0.5, f"/p/{name}", f"{n:02}", n, f"/p/{name}") for n, name in enumerate(names)]
    rows = [Row(item, name, "=cmd", "train", item.content) for item, name in zip(items, names, strict=True)]
    marks = {0: Mark("wrong label", "=other"), 3: Mark("fine")}
    text = as_text(rows, marks)
    for line in csv.reader(text.splitlines()[1:]):
        assert not any(value.startswith(("=", "@", "+", "-")) for value in line)
    assert cell("=1+1.jpg") in text
    path = tmp_path / "reviewed.csv"
    path.write_text(text, encoding="utf-8")
    found = read_marks(path, items, ["=cmd", "=other"], Path("/p"))
    assert {number: mark for number, mark in found.items() if mark} == marks


def test_data_without_files_is_known_by_its_ids(task, run_tiny, tmp_path):
    train = task.train
    items = [Item(n, task.target_names[t], 0.1, i % 50 == 0, 0.1, place=i)
             for i, (n, t) in enumerate(zip(train.ids.tolist(), train.target.tolist(), strict=True))]  # fmt: skip
    rows = [Row(item, "", item.target, "train") for item in items]
    path = tmp_path / "reviewed.csv"
    path.write_text(as_text(rows, {items[0].number: Mark("fine"), items[3].number: Mark("conflicting")}))
    found = run_tiny("method=[mine_file]", f"mine_file.path={path}", task=task).artifacts["conflict_score"]
    wanted = {i for i in range(len(items)) if i % 50 == 0} - {0} | {3}
    assert set(found.score.nonzero().flatten().tolist()) == wanted
    marks = read_marks(path, items, task.target_names, None)
    assert {number: mark.mark for number, mark in marks.items() if mark} == {
        items[0].number: "fine", items[3].number: "conflicting",
    }  # fmt: skip
