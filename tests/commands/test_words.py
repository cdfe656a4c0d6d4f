"""What is given as text stays text, and ~ is the home folder."""

import pytest
from sacred.arg_parser import get_config_updates

from debias.catalogue import known_settings
from debias.commands.words import PATHS, as_given
from debias.errors import UserError


@pytest.mark.parametrize("text", ["2024_01", "123", "1e3", "True", "1j", "-5", "0x10"])
def test_texts_that_python_reads_as_numbers(text):
    words = as_given(["samples", "with", "own_images", f"data_dir={text}", "seed=1_0"])
    assert get_config_updates(words[2:]) == ({"data_dir": text, "seed": 10}, ["own_images"])


@pytest.mark.parametrize("word", ["data_dir=None", "data_dir='2024_01'", "data_dir=a,b", "seed=3", "own_images", "x=1"])
def test_other_words_stay(word):
    assert as_given(["with", word]) == ["with", word]
    assert as_given([word]) == [word]


@pytest.mark.parametrize("path", PATHS)
def test_the_home_folder(path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/person")
    assert path in known_settings()
    assert as_given(["with", f"{path}=~/a"]) == ["with", f"{path}=/home/person/a"]
    assert as_given(["with", f"{path}=a~b"]) == ["with", f"{path}=a~b"]


def test_the_home_of_nobody():
    with pytest.raises(
        UserError, match="setting store: ~nobody_of_this_name/a names the home folder of an unknown user"
    ):
        as_given(["with", "store=~nobody_of_this_name/a"])
