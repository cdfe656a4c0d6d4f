"""Closed-form weights as a stage: who is drawn how often, true and pseudo labels, and labels that say nothing."""

import pytest
import torch

from debias.errors import UserError
from debias.training.loop import fit_alone
from tests.pipeline import short


class Spy:
    """Keeps the batches of a stage."""

    def fit(self, job, ctx):
        if ctx.stage == "resample":
            self.batches = job.batches
        return fit_alone(job, ctx)


@pytest.mark.parametrize("giver", ["true_bias", "mine_gce"])
def test_target_and_bias_are_independent_among_drawn_images(run_tiny, task, giver):
    spy = Spy()
    outcome = run_tiny(*short(f"[{giver},resample]", 1), "mine_gce.batch_size=32", task=task, together=spy)
    labels = task.train.bias if giver == "true_bias" else outcome.artifacts["bias"].label
    weights = spy.batches.weights
    cells = torch.zeros(10, 10).index_put_((labels, task.train.target), weights, accumulate=True)
    present = torch.zeros(10, 10).index_put_((labels, task.train.target), torch.ones(480), accumulate=True) > 0
    rows = torch.bincount(labels, minlength=10) / 480
    columns = torch.bincount(task.train.target, minlength=10).float()
    torch.testing.assert_close(cells[present], torch.outer(rows, columns)[present], rtol=1e-4, atol=1e-4)
    assert {name for name, about in outcome.stages.items() if about.needs_bias_labels} == {"true_bias"} & {giver}


def test_labels_that_are_the_classes_are_refused(run_tiny, task):
    """A biased network that has learnt every image by heart: its labels set nothing against anything."""
    by_heart = ("mine_gce.epochs=60", "mine_gce.optimiser=adam", "mine_gce.learning_rate=0.001", "mine_gce.q=0.0")
    words = [*short("gce_resample", 1), *by_heart, "mine_gce.decay_rounds=60", "mine_gce.batch_size=16"]
    with pytest.raises(UserError, match="resample: the pseudo bias labels name every training image's own class"):
        run_tiny(*words, task=task)
