"""Stages on data with a second modality: those that can use it do, the others refuse before they start."""

from dataclasses import replace

import pytest
import torch

from debias.data.split import Task
from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.stages.recipes import RECIPES, STAGES
from tests.pipeline import short


@pytest.fixture(scope="module")
def two(task: Task) -> Task:
    """The tiny data set with black images, and the target, as one of ten, as a second modality: only that tells."""

    def with_vector(split):
        vector = 30 * torch.nn.functional.one_hot(split.target, 10).float()
        return replace(split, images=torch.zeros_like(split.images), vector=vector)

    assert task.valid is not None
    splits = {name: with_vector(getattr(task, name)) for name in ("train", "test", "valid")}
    return replace(task, key="two modalities", **splits)


def taking() -> list[str]:
    return [name for name in RECIPES if all(STAGES[stage].takes_vector for stage in RECIPES[name].stages)]


@pytest.mark.recipe
@pytest.mark.parametrize("method", taking())
def test_every_recipe_that_takes_it_learns_from_it(run_tiny, two, method):
    words = short(method, 3)
    rates = [f"{name}.learning_rate=0.01" for name in RECIPES[method].stages if "epochs" in STAGES[name].settings]
    # With these rates a network knows all images in three epochs, and then none is a suspect.
    early = ["pretrain.epochs=1", "finetune.epochs=15"] if "mine_wrong" in RECIPES[method].stages else []
    outcome = run_tiny(*words, *rates, *early, task=two)
    last = next(name for name in ("target/average/last", "model/average/last") if name in outcome.summary)
    assert outcome.summary[last] > 70
    spec = outcome.artifacts["model"].spec
    assert spec["vector"] == 10
    assert build_classifier(spec).head.in_features == 110


@pytest.mark.parametrize("method", [name for name in RECIPES if name not in taking()])
def test_the_others_say_that_they_cannot(run_tiny, two, method):
    with pytest.raises(UserError, match="second modality beside the image, which the stage .* cannot use"):
        run_tiny(*short(method), task=two)


def test_erm_takes_it():
    assert "erm" in taking()
