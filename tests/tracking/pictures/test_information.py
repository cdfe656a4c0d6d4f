"""Pictures of the information of modalities, and the shares that are in them."""

import numpy as np
import pytest

from debias.tracking.pictures.information import plot_information

HISTORY = [
    {"epoch": 1.0, "information/image": 1.0, "information/colour": 3.0, "loss": 2.0},
    {"epoch": 2.0, "information/image": 9.0, "information/colour": 1.0, "loss": 1.0},
]


def test_three_pictures(tmp_path):
    paths = list(plot_information(tmp_path, "fisher", HISTORY))
    assert [path.name for path in paths] == [
        "fisher-information.png",
        "fisher-information-share.png",
        "fisher-information-first-last.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_the_share_is_that_of_the_information(tmp_path, canvases):
    list(plot_information(tmp_path, "fisher", HISTORY))
    information, share, _ = (sorted(line.get_xydata().tolist() for line in one.axes[0].get_lines()) for one in canvases)
    assert information == [[[1, 1], [2, 9]], [[1, 3], [2, 1]]]
    assert np.ravel(share) == pytest.approx([1, 25, 2, 90, 1, 75, 2, 10])


def test_none_without_information(tmp_path):
    assert list(plot_information(tmp_path, "pretrain", [{"epoch": 1.0, "loss": 1.0}])) == []
