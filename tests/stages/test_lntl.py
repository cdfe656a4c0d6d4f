"""Learning Not to Learn as a stage: which update moves what, and what it starts from."""

import pytest
import torch

from debias.catalogue import default_for
from debias.errors import UserError
from debias.models.registry import build_classifier
from tests.pipeline import short

WORDS = ("dataset=jitter_digits", *short("lntl", 1), "limit=120", "lntl.batch_size=64")


class Watched:
    """Instead of the loop: the updates of one epoch, each with the weights before and after it, and then no more."""

    def __init__(self):
        self.seen = []

    def fit(self, job, ctx):
        optimiser, model = job.updates[0].optimiser, job.model
        assert job.updates[1].optimiser is optimiser
        for batch in job.batches.epoch(torch.Generator().manual_seed(0)):
            for number, update in enumerate(job.updates):
                before = {name: value.detach().clone() for name, value in model.named_parameters()}
                total, logs = update.loss(batch)
                total.backward()
                optimiser.step()
                for weight in model.parameters():
                    weight.grad = None
                after = {name: value.detach().clone() for name, value in model.named_parameters()}
                self.seen.append(
                    (number, before, after, float(total.detach()), {k: float(v.detach()) for k, v in logs.items()})
                )
        raise StopIteration


@pytest.fixture
def watched(run_tiny):
    """watched(*words) is (number, before, after, loss, logs) of every update of a tiny run."""

    def run(*words):
        watched = Watched()
        with pytest.raises(StopIteration):
            run_tiny(*WORDS, *words, together=watched)
        return watched.seen

    return run


def moved(before, after) -> set[str]:
    names = [name for name in before if not torch.equal(before[name], after[name])]
    layer = {name: name.removeprefix("classifier.").removeprefix("backbone.").split(".")[0] for name in names}
    return {"predictors" if name.startswith("predictors") else layer[name] for name in names}


F, G = {"norm", "conv1", "conv2"}, {"conv3", "conv4", "head"}


def test_the_first_update_moves_the_classifier_and_the_second_the_predictors_and_f(watched):
    seen = watched()
    assert [number for number, *_ in seen] == [0, 1, 0, 1]
    for number, before, after, _, _ in seen:
        assert moved(before, after) == (F | G if number == 0 else F | {"predictors"})


def test_idle_layers_move_on_when_asked(watched):
    seen = watched("lntl.idle_layers=move")
    (_, before, after, *_) = seen[1]
    assert moved(before, after) == F | G | {"predictors"}
    # by momentum and weight decay alone: velocity v = .9 v + decay * w, step -lr * v
    (_, first, second, *_) = seen[0]
    name, rate, decay = "classifier.head.weight", 0.01, 5e-4
    velocity = (first[name] - second[name]) / rate
    torch.testing.assert_close(after[name], before[name] - rate * (0.9 * velocity + decay * before[name]))


def test_without_its_terms_the_first_update_is_cross_entropy_and_f_is_not_told_of_colours(watched):
    words = ("lntl.entropy_weight=0.0", "lntl.reversal=0.0", "lntl.weight_decay=0.0", "lntl.momentum=0.0")
    (_, before, after, *_) = watched(*words)[1]
    assert moved(before, after) == {"predictors"}


def test_logs_are_sensible(watched):
    seen = watched()
    for number, _, _, _, logs in seen:
        assert set(logs) == ({"train/accuracy", "train/entropy"} if number == 0 else {"train/bias_accuracy"})
    assert seen[0][4]["train/entropy"] == pytest.approx(torch.tensor(8.0).log().item(), rel=0.1)


def test_it_learns_and_gives_a_classifier(run_tiny):
    fast = ["lntl.batch_size=32", "lntl.optimiser=adam", "lntl.learning_rate=0.003"]
    outcome = run_tiny("dataset=jitter_digits", *short("lntl", 3), "limit=600", *fast)
    assert outcome.stages["lntl"].report.history[-1]["train/accuracy"] > 30
    model = build_classifier(outcome.artifacts["model"].spec)
    model.load_state_dict(outcome.artifacts["model"].states["last"])
    assert {"model/unbiased/last", "model@grey/average/last"} <= set(outcome.summary)


def test_it_goes_on_from_a_model_of_an_earlier_stage(run_tiny):
    words = ["dataset=jitter_digits", *short("lntl_pretrained", 1), "limit=120", "lntl.learning_rate=0.0"]
    outcome = run_tiny(*words)
    first = outcome.artifacts["model"].states["last"]["head.weight"]
    pretrained = run_tiny(*words, last="pretrain").artifacts["model"].states["last"]["head.weight"]
    assert torch.equal(first, pretrained)


def test_the_wrong_network_is_refused(run_tiny):
    with pytest.raises(UserError, match=r"convnet alone, as with pretrain\.network=convnet"):
        run_tiny("dataset=jitter_digits", *short("lntl_pretrained", 1), "pretrain.network=mlp3", "limit=120")


def test_the_learning_rate_is_smaller_after_pretraining():
    assert default_for("lntl.learning_rate", "lntl", "jitter_mnist") == 0.01
    assert default_for("lntl.learning_rate", "lntl_pretrained", "jitter_mnist") == 0.001


def test_augmented_images_are_refused(run_tiny):
    """Their pixels would be elsewhere than the bins that were read off them."""
    with pytest.raises(UserError, match="is not to be augmented"):
        run_tiny(*WORDS, "augment=crop_flip")
