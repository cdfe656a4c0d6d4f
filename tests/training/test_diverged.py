"""Training that diverged is refused: by its losses, and by the weights it left."""

import pytest
import torch

from debias.errors import UserError
from debias.stages.recipes import STAGES
from debias.training.diverged import check_losses, check_weights
from tests.pipeline import method_with, short


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_losses(value):
    check_losses("erm", [{"epoch": 1.0, "loss": 0.5, "train/accuracy": float("nan")}])
    for name in ("loss", "loss1"):
        with pytest.raises(UserError, match=f"diverged: the loss of epoch 2 is {value}; set a lower erm.learning_rate"):
            check_losses("erm", [{"epoch": 1.0, "loss": 0.5}, {"epoch": 2.0, name: value}])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e28])
def test_weights(value):
    good = {"states": {"last": {"w": torch.ones(2), "n": torch.tensor(3)}}}
    check_weights("erm", {"model": good, "report": {"history": []}, "scores": {"ids": torch.zeros(2)}})
    bad = {"states": {"last": {"w": torch.tensor([1.0, value])}}}
    with pytest.raises(UserError, match="w of its model holds values that are not finite"):
        check_weights("erm", {"model": bad})


@pytest.mark.recipe
@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if "learning_rate" in stage.settings])
def test_a_stage_that_diverges_fails_and_says_so(stage, run_tiny):
    """Whatever trains, in the words of its own stage: so every method."""
    method = method_with(stage)
    data = ["dataset=bimodal_digits"] if stage == "fisher" else []
    with pytest.raises(UserError, match=rf"^{stage}: .*diverged.*{stage}.learning_rate"):
        run_tiny(*short(method, epochs=1), *data, f"{stage}.learning_rate=1e38", last=stage)
