"""SelecMix: the loss at the first weights image by image, what is drawn, a resume, and the model that is kept."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from debias.losses.selective_mixing import generalised_contrastive
from debias.models.registry import build_classifier
from debias.randomness import derive
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from tests.pipeline import same, short

N = 480
WHOLE = (f"selecmix.batch_size={N}", "selecmix.epochs=1")


class Spy:
    """Keeps what a stage asks of the loop, and the first weights."""

    def fit(self, job, ctx):
        self.job = job
        self.first = {name: value.clone() for name, value in job.model.state_dict().items()}
        return fit_alone(job, ctx)


@pytest.fixture
def run(run_tiny, task):
    return lambda *words, **also: run_tiny(*short("selecmix"), *words, **{"task": task, **also})


def drawn(seed: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Of an epoch of one batch: the order of its images, their shares in [0, 1), and the coin."""
    generator = torch.Generator().manual_seed(derive(seed, "selecmix", 0))
    order = torch.randperm(N, generator=generator)
    draws = torch.rand(N + 1, generator=generator)
    return order, draws[:-1], bool(draws[-1] < 0.5)


# Seeds whose first coins fall on either side.
OF_CLASS = next(seed for seed in range(1, 30) if drawn(seed)[2])
OF_OTHERS = next(seed for seed in range(1, 30) if not drawn(seed)[2])


@pytest.mark.parametrize("seed", [OF_CLASS, OF_OTHERS])
@pytest.mark.parametrize("own_share", [0.5, 0.0])
def test_the_loss_image_by_image(run, task, seed, own_share):
    spy = Spy()
    words = (f"selecmix.own_share={own_share}", "selecmix.learning_rate=0", f"seed={seed}")
    outcome = run(*WHOLE, *words, together=spy)
    order, shares, of_class = drawn(seed)
    images, target = task.train.images[order].float() / 255, task.train.target[order]
    with torch.no_grad():
        features = normalize(spy.job.model["auxiliary"](images), dim=1)
    cosines = features @ features.T
    expected, mixtures, labels = generalised_contrastive(cosines, target, 0.2, 0.7), [], []
    for i in range(N):
        others = [j for j in range(N) if j != i and (target[j] == target[i]) == of_class]
        partner = min(others, key=lambda j: float(cosines[i, j])) if of_class else max(
            others, key=lambda j: float(cosines[i, j])
        )  # fmt: skip
        share = own_share * shares[i]
        mixtures.append(share * images[i] + (1 - share) * images[partner])
        labels.append(target[partner])
    with torch.no_grad():
        expected = expected + cross_entropy(spy.job.model["classifier"](torch.stack(mixtures)), torch.stack(labels))
    (row,) = outcome.stages["selecmix"].report.history
    assert row["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_the_auxiliary_network_learns_by_itself(run):
    """What the classifier is, and how much is mixed, is nothing to it."""
    found = []
    for words in (("selecmix.own_share=0.5",), ("selecmix.own_share=0.0",)):
        spy = Spy()
        run(*words, together=spy)
        now = spy.job.model.state_dict()
        assert not any(torch.equal(now[name], spy.first[name]) for name in now)
        found.append(spy.job.model)
    one, other = found
    same(dict(one["auxiliary"].state_dict()), dict(other["auxiliary"].state_dict()))
    assert not torch.allclose(one["classifier"].head.weight, other["classifier"].head.weight)


def test_an_interruption_changes_nothing(run, tmp_path):
    words = ("selecmix.epochs=3", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "selecmix/loss" and epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*words, log=stop)
    said: list[str] = []
    resumed = run(*words, say=said.append)
    assert any("selecmix: resuming after epoch 2 of 3" in line for line in said)
    whole = run(*words, store=tmp_path / "whole")
    same(resumed.artifacts, whole.artifacts)
    same(resumed.stages["selecmix"].report.history, whole.stages["selecmix"].report.history)


def test_the_model_is_the_classifier(run, task):
    outcome = run()
    artifact = outcome.artifacts["model"]
    model = build_classifier(artifact.spec)
    model.load_state_dict(artifact.states["last"])
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert outcome.summary["model/average/last"] == pytest.approx(100 * float(right.double().mean()))
    assert not any(about.needs_bias_labels for about in outcome.stages.values())


def test_published_settings_and_small_ones_on_features(configured):
    own = configured("colored_mnist", "selecmix")["selecmix"]
    assert (own["q"], own["temperature"], own["own_share"], own["network"]) == (0.7, 0.2, 0.5, "mlp5")
    assert configured("bffhq", "selecmix", "features=resnet50")["selecmix"]["network"] == "mlp_features"
