"""Pictures of the information of modalities, and the shares that are in them."""

import pytest

import tracking.pictures.information as module
from tracking.pictures.information import plot_information

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


def test_the_share_is_that_of_the_information(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(module, "plot_curves", lambda series, path, **look: drawn.setdefault(path.name, series))
    list(plot_information(tmp_path, "fisher", HISTORY))
    assert drawn["fisher-information.png"]["colour"] == [(1.0, 3.0), (2.0, 1.0)]
    shares = drawn["fisher-information-share.png"]
    assert [value for _, value in shares["image"]] == pytest.approx([25, 90])
    assert [value for _, value in shares["colour"]] == pytest.approx([75, 10])


def test_none_without_information(tmp_path):
    assert list(plot_information(tmp_path, "pretrain", [{"epoch": 1.0, "loss": 1.0}])) == []
