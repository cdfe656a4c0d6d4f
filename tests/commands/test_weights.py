"""Weights are measured on what they were trained for: other classes are refused, other preparation is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from debias.commands import weights
from debias.commands.weights import as_trained
from debias.data.preparation import Preparation
from debias.errors import UserError
from debias.models.description import Description

DIGITS = tuple(str(number) for number in range(10))
SPEC = {"backbone": "mlp3", "shape": [3, 28, 28], "classes": 10}


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(weights, "say", lines.append)
    return lines


def about(**changed):
    return replace(Description({"model": SPEC}, DIGITS, {"size": 28, "framing": "stretch"}, None, True), **changed)


def test_the_same_data_are_left_as_they_are(task, said):
    assert as_trained(task, about(), Path("w.safetensors")) is task
    assert as_trained(task, None, Path("w.th")) is task and said == []


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        ((*DIGITS[:9], "nine"), "it knows nine, which colored_digits does not have; colored_digits has 9"),
        (DIGITS[::-1], "in another order"),
    ],
)
def test_other_classes_are_refused(task, said, classes, what):
    with pytest.raises(UserError, match=what):
        as_trained(task, about(classes=classes), Path("w.safetensors"))


def test_another_framing_is_said(task, said):
    photos = replace(task, name="own_images", preparation=Preparation(28, "crop"))
    as_trained(photos, about(preparation={"size": 28, "framing": "pad"}), Path("w.safetensors"))
    assert len(said) == 1 and "framing=pad" in said[0] and "set framing=pad" in said[0]


def test_normalisation_is_that_of_the_weights(task, said):
    numbers = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    other = as_trained(task, about(normalise=numbers), Path("w.safetensors"))
    assert other.mean == (0.1, 0.2, 0.3) and other.std == (0.4, 0.5, 0.6) and len(said) == 1
    older = about(says_normalise=False)
    assert as_trained(task, older, Path("w.safetensors")) is task
