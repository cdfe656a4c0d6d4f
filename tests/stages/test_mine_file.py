"""Suspects read from a table: what is taken, what is refused, and a changed file is another input."""

from dataclasses import replace

import pytest
import torch

from debias.errors import UserError
from debias.stages.mining.file import read_rows
from debias.stages.recipes import stages_of
from debias.tracking.pictures.suspects import write_suspects
from debias.training.walk import stage_key
from tests.pipeline import short

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
    assert torch.equal(scores.score, expected) and scores.threshold == 0.5
    assert f"mine_file: {len(ids) - 2} training images have no row and count as aligned" in lines
    flags = run_tiny(*words, "mine_file.column=suspect", task=task).artifacts["conflict_score"].score
    assert flags.nonzero().flatten().tolist() == [3, 5]


def test_what_mining_wrote_can_be_read_again(run_tiny, task, tmp_path):
    mined = run_tiny(*short("[pretrain,mine_wrong]"), task=task).artifacts["conflict_score"]
    path, _ = write_suspects(tmp_path, task, mined)
    words = ("method=[mine_file]", f"mine_file.path={path}")
    again = run_tiny(*words, task=task).artifacts["conflict_score"]
    torch.testing.assert_close(again.score, mined.score, atol=1e-6, rtol=0)
    flags = run_tiny(*words, "mine_file.column=suspect", task=task).artifacts["conflict_score"].score
    assert torch.equal(flags > 0.5, mined.score > 0.5)


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


def test_rows_of_another_target_are_refused(run_tiny, task, table):
    number, target = int(task.train.ids[0]), int(task.train.target[0])
    other = task.target_names[(target + 1) % 10]
    path = table("id,target,score", f"{number},{other},1")
    with pytest.raises(
        UserError, match=f"line 2: image {number} is of target {task.target_names[target]}, not {other}"
    ):
        run_tiny("method=[mine_file]", f"mine_file.path={path}", task=task)


class TestColumn:
    """Which column `auto` is: what somebody marked is never passed over in silence."""

    def found(self, run_tiny, task, path, *words):
        lines: list[str] = []
        words = ("method=[mine_file]", f"mine_file.path={path}", *words)
        score = run_tiny(*words, task=task, say=lines.append).artifacts["conflict_score"].score
        return score[:4].tolist(), [line for line in lines if "suspect" in line or "score" in line]

    def lines(self, task, *rows):
        return [f"{number},{row}" for number, row in zip(task.train.ids.tolist(), rows, strict=False)]

    def test_flags_where_there_are_no_scores(self, run_tiny, task, table):
        path = table("id,suspect", *self.lines(task, 1, 0, 0, 1))
        assert self.found(run_tiny, task, path) == ([1, 0, 0, 1], [])

    def test_scores_where_nobody_changed_the_flags(self, run_tiny, task, table):
        path = table("id,score,suspect", *self.lines(task, "0.75,1", "0.25,0", "0.5,0", "1,1"))
        assert self.found(run_tiny, task, path) == ([0.75, 0.25, 0.5, 1], [])

    def test_flags_that_no_threshold_gives(self, run_tiny, task, table):
        path = table("id,score,suspect", *self.lines(task, "0.75,1", "0.25,1", "0.5,0", "1,0"))
        score, said = self.found(run_tiny, task, path)
        assert score == [1, 1, 0, 0] and "so it was corrected and is taken" in said[0]
        assert self.found(run_tiny, task, path, "mine_file.column=score")[0] == [0.75, 0.25, 0.5, 1]

    def test_flags_of_another_threshold_are_told_of(self, run_tiny, task, table):
        path = table("id,score,suspect", *self.lines(task, "0.75,0", "0.25,0", "0.5,0", "1,1"))
        score, (said,) = self.found(run_tiny, task, path)
        assert score == [0.75, 0.25, 0.5, 1]
        assert "1 images are flagged otherwise than in `suspect`; mine_file.column=suspect takes that" in said

    def test_marks_go_before_flags(self, run_tiny, task, table):
        path = table(
            "id,score,suspect,mark", *self.lines(task, "0.75,1,fine", "0.25,0,conflicting", "0.5,1,unsure", "1,1,")
        )
        assert self.found(run_tiny, task, path)[0] == [0, 1, 1, 1]
        assert self.found(run_tiny, task, path, "mine_file.column=score")[0] == [0.75, 0.25, 0.5, 1]

    def test_a_mark_that_is_not_known(self, table):
        with pytest.raises(UserError, match="line 3: mark 'fin' is none of .*; did you mean fine"):
            read_rows(table("id,suspect,mark", "1,0,fine", "2,0,fin"))

    def test_rows_of_other_parts_are_for_labels(self, table):
        path = table("path,split,suspect,mark", "a.png,train,0,", "b.png,test,,", "c.png,valid,,", "d.png,,1,")
        assert [(row.path, row.id, row.score) for row in read_rows(path)] == [("a.png", None, 0), ("d.png", None, 1)]

    def test_paths_need_data_that_is_files(self, run_tiny, task, table):
        path = table("path,suspect", "a.png,1")
        with pytest.raises(UserError, match="known by their ids, and there is no column 'id'"):
            run_tiny("method=[mine_file]", f"mine_file.path={path}", task=task)


class TestFiles:
    """Images from files are known by path and content, wherever they stand in the list now."""

    @pytest.fixture
    def of_files(self, task):
        count = int(task.train.ids.max()) + 1
        names = tuple(f"/photos/{number:04}.png" for number in range(count))
        return replace(task, files=names, digests=tuple(f"{number:032x}" for number in range(count)))

    @pytest.fixture
    def mined(self, of_files, table):
        """A table in which two images are marked, and their paths."""
        ids = of_files.train.ids.tolist()
        marked = sorted([of_files.files[ids[3]], of_files.files[ids[5]]])
        lines = []
        for number, target in zip(ids, of_files.train.target.tolist(), strict=True):
            name = of_files.files[number]
            score = float(name in marked)
            lines.append(f"{number},{of_files.target_names[target]},{score},{name},{of_files.digests[number]}")
        return table("id,target,score,path,content", *lines), marked

    def marked(self, run_tiny, path, task, **also):
        words = ("method=[mine_file]", f"mine_file.path={path}")
        found = run_tiny(*words, "fresh=True", task=task, **also).artifacts["conflict_score"]
        return sorted(task.files[int(n)] for n, score in zip(found.ids, found.score, strict=True) if score > 0.5)

    def test_one_file_more_moves_no_mark(self, run_tiny, of_files, mined):
        path, marked = mined
        new = replace(of_files, files=("/photos/new.png", *of_files.files), digests=("f" * 32, *of_files.digests))
        new = replace(new, train=replace(new.train, ids=new.train.ids + 1))
        assert self.marked(run_tiny, path, new) == marked

    def test_a_moved_file_is_known_by_its_content(self, run_tiny, of_files, mined):
        path, marked = mined
        moved = tuple("/photos/moved.png" if name == marked[0] else name for name in of_files.files)
        assert self.marked(run_tiny, path, replace(of_files, files=moved)) == sorted(["/photos/moved.png", marked[1]])

    def test_a_file_that_is_gone_matters_where_it_was_marked(self, run_tiny, of_files, mined):
        path, marked = mined
        ids = of_files.train.ids.tolist()

        def without(place):
            keep = torch.tensor([i for i in range(len(ids)) if i != place])
            return replace(of_files, train=of_files.train.subset(keep))

        lines: list[str] = []
        assert self.marked(run_tiny, path, without(0), say=lines.append) == marked
        assert any("1 rows that are not marked are of no training image" in line for line in lines)
        with pytest.raises(UserError, match="is marked but no longer a training image"):
            self.marked(run_tiny, path, without(3))

    def test_marked_files_that_are_test_images_now_are_told_of(self, run_tiny, of_files, mined):
        path, marked = mined
        keep = torch.tensor(
            [i for i in range(len(of_files.train)) if of_files.files[of_files.train.ids[i]] != marked[0]]
        )
        now = replace(of_files, train=of_files.train.subset(keep), other_files=((marked[0], "test", 0),))
        lines: list[str] = []
        assert self.marked(run_tiny, path, now, say=lines.append) == [marked[1]]
        assert f"mine_file: 1 marked images are test images now, the first {marked[0]}" in lines

    def test_files_that_changed_places_are_known_by_their_content(self, run_tiny, of_files, mined):
        path, marked = mined
        places = [of_files.files.index(name) for name in (marked[0], of_files.files[of_files.train.ids[9]])]
        digests = list(of_files.digests)
        digests[places[0]], digests[places[1]] = digests[places[1]], digests[places[0]]
        now = replace(of_files, digests=tuple(digests))
        assert self.marked(run_tiny, path, now) == sorted([marked[1], of_files.files[places[1]]])

    def test_another_image_under_the_same_path_is_refused(self, run_tiny, of_files, mined):
        path, marked = mined
        place = of_files.files.index(marked[0])
        digests = tuple("e" * 32 if n == place else value for n, value in enumerate(of_files.digests))
        with pytest.raises(UserError, match=f"{marked[0]} is another image than when the table was made"):
            self.marked(run_tiny, path, replace(of_files, digests=digests))


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
        read_rows(table(*lines), "score")


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "set mine_file.path"), (["mine_file.path=nowhere.csv"], "nowhere.csv: cannot be read")],
)
def test_a_missing_file_is_refused_before_any_work(configured, words, said):
    with pytest.raises(UserError, match=said):
        configured(f"method={METHOD}", *words)
