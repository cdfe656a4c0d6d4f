"""Sacred's own options with values it would answer by a traceback, and words that contradict each other."""

import pytest
from docopt import DocoptExit

from debias.commands.experiment import build, check_words
from debias.errors import UserError


@pytest.fixture(scope="module")
def whole():
    return build()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-l", "foo"], "--loglevel foo"),
        (["-b", "foo"], "--beat-interval foo"),
        (["-b", "nan"], "--beat-interval nan"),
        (["-P", "foo"], "--priority foo"),
        (["-C", "foo"], "--capture foo"),
        (["-q"], "--queue"),
        (["-e"], "--enforce_clean"),
        (["-F", "/proc/nothere"], "--file_storage /proc/nothere"),
        (["-i", "../x"], "--id ../x"),
        (["-i", "1"], "--id 1: there is such a run"),
    ],
)
def test_values_that_cannot_be_used(whole, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "1").mkdir(parents=True)
    with pytest.raises(UserError, match=said):
        check_words(whole, ["with", "seed=2", *options])


def test_values_that_can(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_words(whole, ["with", "seed=2", "-l", "DEBUG", "-b", "5", "-P", "-1", "-C", "no", "-i", "7", "-u", "-c", "x"])


def test_options_without_their_value(whole):
    with pytest.raises(DocoptExit):
        check_words(whole, ["with", "seed=2", "-m"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["skewed1", "skew=0.5"], "skewed1 and skew=0.5 contradict"),
        (["colored_digits", "dataset=biased_digits"], "contradict"),
        (["erm", "method=jtt"], "erm and method=jtt contradict"),
        (["skewed1", "rho=0.9"], "rho=0.9 and skewed1 contradict"),
        (["skew=0.05", "rho=0.9"], "contradict each other, as rho is 1 - skew"),
        (["bar", "skew=0.01"], "skew=0.01: no setting chooses the share of conflicting images of bar"),
        (["own_images", "skewed3"], "skewed3: no setting chooses"),
        (["dataset=bar", "rho=0.99"], "rho=0.99: no setting chooses"),
        ([""], "neither NAME=VALUE nor a named config"),
        (["pretrain.=3"], "neither"),
    ],
)
def test_contradictions(whole, words, said):
    with pytest.raises(UserError, match=said):
        check_words(whole, ["with", *words])


@pytest.mark.parametrize(
    "words",
    [
        ["seed=1", "seed=1"],
        ["seed=1", "seed=2"],
        ["colored_digits", "dataset=colored_digits", "skewed1", "rho=0.95"],
        ["overlapping", "valid_fraction=0.2"],
        ["reference", "distill.teacher=last"],
        ["bffhq", "skew=0.01"],
    ],
)
def test_words_that_agree(whole, words):
    check_words(whole, ["with", *words])


def test_a_dash_is_no_command(whole):
    with pytest.raises(UserError, match="no command is called '-'"):
        check_words(whole, ["-"])


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (["seed=1", "skew=0.1", "seed=2", "rho=0.9"], "seed=2"),
        (["seed=1", "limit=60", "seed=2", "limit=70", "seed=3", "threads=1", "threads=1"], "limit=70, seed=3"),
        (["pretrain.epochs=1", "seed=1", "seed=1"], None),
    ],
)
def test_one_line_says_which_of_several_values_count(whole, monkeypatch, words, which):
    said = []
    monkeypatch.setattr("debias.commands.words.say", said.append)
    check_words(whole, ["with", *words])
    assert said == ([] if which is None else [f"given more than once, of which the last counts: {which}"])
