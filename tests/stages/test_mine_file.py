"""Suspects read from a table: what is taken, what is refused, and a changed file is another input."""

import pytest
import torch

from errors import UserError
from stages.mining.file import read_scores
from stages.recipes import stages_of
from stages.run import stage_key
from tests.pipeline import short
from tracking.suspects import write_suspects

METHOD = "[pretrain,mine_file,finetune]"


@pytest.fixture
def table(tmp_path):
    def write(*lines: str):
        path = tmp_path / "suspects.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write


def test_scores_flags_and_missing_rows(run_tiny, task, table):
    ids = task.train.ids.tolist()
    path = table("id,target,score,suspect", f"{ids[3]},x,0.9,1", f"{ids[5]},x,0.25,1")
    lines: list[str] = []
    words = ("method=[mine_file]", f"mine_file.path={path}")
    scores = run_tiny(*words, task=task, say=lines.append).artifacts["conflict_score"]
    expected = torch.zeros(len(ids))
    expected[3], expected[5] = 0.9, 0.25
    assert torch.equal(scores["score"], expected) and scores["threshold"] == 0.5
    assert f"mine_file: {len(ids) - 2} training images have no row and count as aligned" in lines
    flags = run_tiny(*words, "mine_file.column=suspect", task=task).artifacts["conflict_score"]["score"]
    assert flags.nonzero().flatten().tolist() == [3, 5]


def test_what_mining_wrote_can_be_read_again(run_tiny, task, tmp_path):
    mined = run_tiny(*short("[pretrain,mine_wrong]"), task=task).artifacts["conflict_score"]
    path, _ = write_suspects(tmp_path, task, mined)
    words = ("method=[mine_file]", f"mine_file.path={path}")
    again = run_tiny(*words, task=task).artifacts["conflict_score"]
    torch.testing.assert_close(again["score"], mined["score"], atol=1e-6, rtol=0)
    flags = run_tiny(*words, "mine_file.column=suspect", task=task).artifacts["conflict_score"]["score"]
    assert torch.equal(flags > 0.5, mined["score"] > 0.5)


def test_a_later_stage_trains_on_it_and_a_changed_file_is_another_input(run_tiny, tiny, task, table):
    path = table("id,score", f"{int(task.train.ids[0])},1")
    words = [*short(METHOD), f"mine_file.path={path}"]
    assert "target/unbiased/last" in run_tiny(*words, task=task).summary
    settings = tiny(*words)
    (stage,) = (each for each in stages_of(settings["method"]) if each.name == "mine_file")
    before = stage_key(stage, task, settings, torch.device("cpu"), {})
    table("id,score", f"{int(task.train.ids[1])},1")
    assert stage_key(stage, task, settings, torch.device("cpu"), {}) != before


def test_ids_of_other_data_are_refused(run_tiny, task, table):
    path = table("id,score", "99999999,1")
    with pytest.raises(UserError, match=r"1 of 1 ids are of no training image \(the first is 99999999\)"):
        run_tiny("method=[mine_file]", f"mine_file.path={path}", task=task)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["number,score", "1,1"], "no column 'id'; it has number, score"),
        (["id,scor", "1,1"], "no column 'score'; it has id, scor; did you mean scor"),
        (["id,score", "1,0.5", "2,1.5"], "line 3: .* not '2' and '1.5'"),
        (["id,score", "1,nan"], "line 2"),
        (["id,score", "one,0.5"], "line 2"),
        (["id,score", "1"], "line 2"),
        (["id,score", "1,0.5", "1,0.5"], "line 3: id 1 comes twice"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(table, lines, said):
    with pytest.raises(UserError, match=said):
        read_scores(table(*lines), "score")


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "set mine_file.path"), (["mine_file.path=nowhere.csv"], "nowhere.csv: cannot be read")],
)
def test_a_missing_file_is_refused_before_any_work(configured, words, said):
    with pytest.raises(UserError, match=said):
        configured(f"method={METHOD}", *words)
