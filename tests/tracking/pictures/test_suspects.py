"""What the user sees of a miner: the table of all images and the sheet of the most suspicious ones."""

import csv

import pytest
import torch

from debias.data.split import Split, Task
from debias.errors import UserError
from debias.stages.common.scores import score_artifact
from debias.tracking.pictures.suspects import top_of_each_class, write_suspects
from tests.sheets import sheet_on

IDS = torch.tensor([70, 20, 50, 10, 60, 30, 40])
TARGET = torch.tensor([1, 0, 1, 0, 1, 0, 1])
SCORE = torch.tensor([0.2, 0.9, 0.95, 0.1, 0.5, 0.9, 0.6])


@pytest.fixture
def small() -> Task:
    """Seven images of two classes; each image's pixels are its position."""
    images = torch.arange(7, dtype=torch.uint8).reshape(7, 1, 1, 1).expand(7, 3, 4, 4).contiguous()
    split = Split(images, TARGET, None, IDS)
    return Task("small", split, split, None, ("cat", "dog"), None, key="small")


def shuffled(threshold=0.5):
    """The scores in an order of their own, as they come from a store."""
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    return score_artifact(IDS[order], SCORE[order], threshold, "mine_test")


def test_the_table_has_every_image_highest_first(small, tmp_path):
    table, _ = write_suspects(tmp_path, small, shuffled())
    assert table == tmp_path / "suspects.csv"
    with table.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.reader(handle))
    assert rows == [
        ["id", "target", "score", "suspect"],
        ["50", "dog", "0.950000", "1"],
        ["20", "cat", "0.900000", "1"],
        ["30", "cat", "0.900000", "1"],
        ["40", "dog", "0.600000", "1"],
        ["60", "dog", "0.500000", "0"],
        ["70", "dog", "0.200000", "0"],
        ["10", "cat", "0.100000", "0"],
    ]


def test_a_score_at_the_threshold_is_no_suspect(small, tmp_path):
    """Also where the nearest float32 lies above the threshold, as for 0.6: the table says what `flags_for` says."""
    table, _ = write_suspects(tmp_path, small, shuffled(0.6))
    with table.open(newline="", encoding="utf-8") as handle:
        assert [row["id"] for row in csv.DictReader(handle) if row["suspect"] == "1"] == ["50", "20", "30"]


def test_the_sheet(small, tmp_path, canvases):
    _, sheet = write_suspects(tmp_path, small, shuffled(), each=2)
    assert sheet == tmp_path / "suspects.png" and sheet.read_bytes().startswith(b"\x89PNG")
    shown = sheet_on(canvases[0])
    assert [int(tile[0, 0, 0]) for tile in shown.tiles] == [1, 5, 2, 6]
    assert shown.captions == ["cat\n0.900", "cat\n0.900", "dog\n0.950", "dog\n0.600"]
    assert shown.columns == 2
    assert "small" in shown.title and "mine_test" in shown.title


def test_top_of_each_class(small):
    assert top_of_each_class(small.train, SCORE, 1).tolist() == [1, 2]
    assert top_of_each_class(small.train, SCORE, 3).tolist() == [1, 5, 3, 2, 6, 4]
    # A class with fewer images than asked for gives all it has.
    assert top_of_each_class(small.train, SCORE, 4).tolist() == [1, 5, 3, 2, 6, 4, 0]


def test_nothing_is_written_for_scores_of_other_data(small, tmp_path):
    other = score_artifact(IDS + 1, SCORE, 0.5, "mine_test")
    with pytest.raises(UserError, match="suspects: 7 of 7 training images have no score"):
        write_suspects(tmp_path, small, other)
    assert list(tmp_path.iterdir()) == []
