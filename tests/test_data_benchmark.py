"""The benchmark of data prints every figure; times are never compared with anything."""

import json
from unittest import mock

import pytest

from benchmarks import data as benchmark
from benchmarks import photos
from debias.data.generated.corruptions import CORRUPTIONS
from debias.errors import UserError

TINY = ("--images", "60", "--repeats", "1", "--threads", "1")


@pytest.fixture(autouse=True)
def _no_files(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)


def test_json_has_every_corruption_and_both_builds(capsys):
    assert benchmark.main(["corruptions", *TINY, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["corruptions"]
    assert [name for name in figures if name in CORRUPTIONS] == list(CORRUPTIONS)
    assert [name for name in figures if name not in CORRUPTIONS] == [
        "type 0, 70 images, 1 threads",
        "type 1, 70 images, 1 threads",
    ]
    assert all(value > 0 for value in figures.values())


def test_sections_are_run_in_turn(capsys):
    sections = {
        "one": benchmark.Section("what one is", lambda options: {"a": 1234.5, "bcd": 1.0}),
        "two": benchmark.Section("what two is", lambda options: {"e": options.images}),
    }
    with mock.patch.dict(benchmark.SECTIONS, sections, clear=True):
        assert benchmark.main([*TINY]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert benchmark.main(["two", *TINY, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"two": {"e": 60}}
    assert lines == [
        "one: what one is",
        "  a           1,234",
        "  bcd             1",
        "two: what two is",
        "  e            60",
    ]


@pytest.mark.parametrize("wrong", [["nonsense"], ["--images", "0"], ["--repeats", "0"], ["--threads", "0"]])
def test_what_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as refusal:
        benchmark.main(wrong)
    assert refusal.value.code == 2
    assert "error" in capsys.readouterr().err


def test_missing_files_are_one_line(capsys):
    def refuse(options):
        raise UserError("no files")

    with mock.patch.dict(benchmark.SECTIONS, {"one": benchmark.Section("", refuse)}, clear=True):
        assert benchmark.main([*TINY]) == 2
    assert capsys.readouterr().err == "error: no files\n"


def test_decoding_and_batches(capsys):
    """Every form of files, from memory and from the cache, beside a DataLoader."""
    form = {"tiny": (40, 30, "jpg", 16, "flip", [photos.transforms.Resize((16, 16))])}
    with mock.patch.dict(photos.FORMS, form, clear=True):
        assert benchmark.main(["decoding", "batches", *TINY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["decoding"]) == {"tiny"}
    ways = ("DataLoader", "memory", "cache", "memory / DataLoader", "cache / DataLoader")
    assert set(found["batches"]) == {f"tiny: {way}" for way in ways}
    assert all(value > 0 for figures in found.values() for value in figures.values())
