"""Settings that a run does not read are named before it; those it reads never are."""

import pytest

from debias.commands.unused import unused_settings
from debias.stages.recipes import stages_of


def unused(tiny, *words, command="train"):
    settings = tiny(*words)
    stages = stages_of(settings["method"], None, settings["dataset"]) if command == "train" else []
    return unused_settings(settings, stages, command)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["method=erm", "variance=0.5"], ["variance=0.5"]),
        (["method=erm", "type=1", "labels=nothere.csv"], ["type=1", "labels=nothere.csv"]),
        (["method=erm", "distill.epochs=4"], ["distill.epochs=4"]),
        (["method=erm", "checkpoint=x", "folder=y", "output=z"], ["folder=y", "output=z", "checkpoint=x"]),
        (["method=erm", "severity=2", "pretrain.epochs=7", "reverse=True", "seed=3", "threads=2"], []),
        (["method=denetdm", "distill.epochs=4"], []),
        (["method=erm", "reference"], []),
    ],
)
def test_training(tiny, words, named):
    assert unused(tiny, *words) == named


def test_other_commands(tiny):
    words = ["method=erm", "replicas=3", "checkpoint=x", "pretrain.epochs=7"]
    assert unused(tiny, *words, command="evaluate") == ["replicas=3", "pretrain.epochs=7"]
