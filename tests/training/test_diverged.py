"""Training that diverged is refused: by its losses, and by the weights it left."""

import pytest
import torch

from debias.errors import UserError
from debias.training.diverged import check_losses, check_weights
from tests.pipeline import short


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


@pytest.mark.parametrize("method", ["erm", "lff", "group_dro", "denetdm"])
def test_a_run_that_diverges_fails_and_says_so(method, run_tiny):
    from debias.stages.recipes import stages_of

    stage = next(stage for stage in stages_of(method) if stage.read_outs)
    with pytest.raises(UserError, match=rf"^{stage.name}: training has diverged"):
        run_tiny(*short(method), f"{stage.name}.learning_rate=1e38")
