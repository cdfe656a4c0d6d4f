"""Several trainings as one: what is stacked, and what is refused rather than computed wrongly."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam

from debias.data.batches import Batch, Batches
from debias.data.gathered import side_by_side
from debias.data.split import Split
from debias.training.job import Job, Update
from debias.training.stacked import Stacked, Unstackable, _sizes
from tests.training.test_sync import Refusing


def split(seed: int, count: int = 10) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 1, 2, 2), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 3, (count,), generator=generator), None, torch.arange(count))


def network(seed: int, *layers: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 5), *(layers or (nn.ReLU(),)), nn.Linear(5, 3))


def plain(model: nn.Module) -> Callable[[Batch], Tensor]:
    return lambda batch: cross_entropy(model(batch.images), batch.target)


def jobs_of(
    make: Callable[..., Callable] = plain, *layers: nn.Module, optimiser: Callable = SGD, rate: float = 0.1, **changes
) -> list[Job]:
    jobs = []
    for seed in (1, 2, 3):
        model = network(seed, *layers)
        update = Update(make(model), optimiser(model.parameters(), lr=rate))
        values = {"epochs": 1, "read_outs": lambda images: {}, "main": "model"} | changes
        jobs.append(Job(model, [update], Batches(split(seed), 4), **values))
    return jobs


def first(jobs: list[Job]) -> list[Batch]:
    return [next(iter(job.batches.epoch(torch.Generator().manual_seed(7)))) for job in jobs]


def step_alone(job: Job, batch: Batch) -> Tensor:
    found = job.updates[0].loss(batch)
    loss = found if isinstance(found, Tensor) else found[0]
    loss.backward()
    job.updates[0].optimiser.step()
    job.updates[0].optimiser.zero_grad()
    return loss.detach()


def assert_like_alone(make: Callable[..., Callable], optimiser: Callable = SGD, steps: int = 5) -> None:
    """Several steps on full and short batches move every model as its own training does."""
    jobs, twins = jobs_of(make, optimiser=optimiser), jobs_of(make, optimiser=optimiser)
    stacked = Stacked(jobs, first(jobs))
    for number in range(steps):
        batches = [list(job.batches.epoch(torch.Generator().manual_seed(number)))[number % 3] for job in jobs]
        losses = stacked.step(side_by_side(batches))["loss"]
        alone = [step_alone(twin, batch) for twin, batch in zip(twins, batches, strict=True)]
        assert losses.tolist() == pytest.approx([float(loss) for loss in alone], rel=1e-5)
    for job, twin in zip(jobs, twins, strict=True):
        for one, other in zip(job.model.parameters(), twin.model.parameters(), strict=True):
            assert torch.allclose(one, other, atol=1e-5)
    assert not torch.allclose(jobs[0].model[1].weight, jobs[1].model[1].weight, atol=1e-2)


@pytest.mark.parametrize("optimiser", [SGD, Adam])
def test_steps_are_those_of_each_by_itself(optimiser):
    assert_like_alone(plain, optimiser)


def test_what_a_loss_reads_beside_the_batch_is_each_ones_own():
    """A table by place in the split that differs from job to job, and a number that does not."""
    made = iter(range(100))

    def make(model):
        table = torch.rand(10, generator=torch.Generator().manual_seed(next(made) % 3))
        scale = torch.tensor(2.0)

        def loss(batch):
            each = cross_entropy(model(batch.images), batch.target, reduction="none")
            return scale * (each * table.index_select(0, batch.index)).mean()

        return loss

    assert_like_alone(make)


class Turned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -2 * gradient


def test_gradients_that_are_not_those_of_the_values():
    """Turned round by a function of its own, and stopped."""

    def make(model):
        def loss(batch):
            hidden = model[2](model[1](batch.images.flatten(1)))
            with torch.no_grad():
                seen = model[3](hidden)
            return cross_entropy(model[3](Turned.apply(hidden)), batch.target) + (seen * hidden.sum(1, True)).mean()

        return loss

    assert_like_alone(make)


def test_logs_come_by_name_for_each():
    def make(model):
        def loss(batch):
            logits = model(batch.images)
            return cross_entropy(logits, batch.target), {"train/top": logits.max(), "train/low": logits.min()}

        return loss

    jobs = jobs_of(make)
    found = Stacked(jobs, first(jobs)).step(side_by_side(first(jobs)))
    assert list(found) == ["loss", "train/top", "train/low"]
    for number, job in enumerate(jobs_of(make)):
        logits = job.model(first(jobs)[number].images)
        assert found["train/top"][number] == pytest.approx(float(logits.max()), rel=1e-5)


def test_optimisers_have_their_states_again():
    """After `release` each goes on as if it had been stepping all the time; also where it has begun before."""
    jobs, twins = jobs_of(optimiser=Adam), jobs_of(optimiser=Adam)
    for each in (jobs, twins):
        for job, batch in zip(each, first(jobs), strict=True):
            step_alone(job, batch)
    stacked = Stacked(jobs, first(jobs))
    stacked.step(side_by_side(first(jobs)))
    stacked.release()
    for job, twin, batch in zip(jobs, twins, first(jobs), strict=True):
        step_alone(twin, batch)
        for weight, other in zip(job.model.parameters(), twin.model.parameters(), strict=True):
            found = job.updates[0].optimiser.state[weight]
            wanted = twin.updates[0].optimiser.state[other]
            assert float(found["step"]) == float(wanted["step"]) == 2
            assert torch.allclose(found["exp_avg"], wanted["exp_avg"], atol=1e-6)
            # A view would be written to a checkpoint with the states of all.
            assert found["exp_avg"].untyped_storage().nbytes() == 4 * weight.numel()


def test_learning_rates_are_those_of_the_epoch():
    jobs, twins = jobs_of(), jobs_of()
    stacked = Stacked(jobs, first(jobs))
    for job in [*jobs, *twins]:
        job.updates[0].optimiser.param_groups[0]["lr"] = 0.5
    stacked.step(side_by_side(first(jobs)))
    for job, twin, batch in zip(jobs, twins, first(jobs), strict=True):
        step_alone(twin, batch)
        assert torch.allclose(job.model[1].weight, twin.model[1].weight, atol=1e-6)


def drawn(model):
    return lambda batch: cross_entropy(model(batch.images + torch.rand_like(batch.images)), batch.target)


def changed(model):
    seen = torch.zeros(())

    def loss(batch):
        value = cross_entropy(model(batch.images), batch.target)
        seen.add_(value.detach())
        return value + 0 * seen

    return loss


def synced(model):
    return lambda batch: cross_entropy(model(batch.images) * float(batch.images.mean()), batch.target)


def half(model):
    return lambda batch: model[1](batch.images.flatten(1)).square().mean()


@pytest.mark.parametrize(
    ("make", "layers", "changes", "why"),
    [
        (plain, (nn.Dropout(),), {}, "a network has Dropout"),
        (plain, (nn.BatchNorm1d(5),), {}, "a network has BatchNorm1d"),
        (drawn, (), {}, "draws at random"),
        (changed, (), {}, "changes what it reads"),
        (synced, (), {}, "torch cannot compute them simultaneously"),
        (half, (), {}, "does not depend on all weights"),
        (plain, (), {"after_epoch": lambda: None}, "averages beside its weights"),
        (plain, (), {"tensors": {"average": torch.zeros(3)}}, "averages beside its weights"),
    ],
)
def test_what_cannot_be_stacked_is_refused(make, layers, changes, why):
    jobs = jobs_of(make, *layers, **changes)
    with pytest.raises(Unstackable, match=why):
        Stacked(jobs, first(jobs))


def test_what_is_not_alike_is_refused():
    for change, why in (
        (lambda job: setattr(job, "epochs", 2), "not trained alike"),
        (lambda job: setattr(job, "batches", Batches(split(1, 11), 4)), "different numbers of images"),
        (lambda job: setattr(job, "updates", [job.updates[0], job.updates[0]]), "more than one update"),
        (lambda job: job.updates[0].optimiser.param_groups[0].update(lr=1.0), "different optimisers"),
        (lambda job: setattr(job.updates[0], "loss", drawn(job.model)), "not made of the same operations"),
    ):
        jobs = jobs_of()
        change(jobs[1])
        with pytest.raises(Unstackable, match=why):
            Stacked(jobs, first(jobs_of()))


def test_what_is_computed_wrongly_is_refused(monkeypatch):
    """The last check: what is done simultaneously is compared with each by itself."""
    jobs = jobs_of()
    monkeypatch.setattr("debias.training.stacked.side_by_side", lambda batches: [torch.stack(c[:1] * 3) for c in zip(*(
        [value for value in batch if value is not None] for batch in batches), strict=True)])  # fmt: skip
    with pytest.raises(Unstackable, match="give other values than each by itself"):
        Stacked(jobs, first(jobs))


def test_an_optimiser_that_goes_through_weights_in_another_order_is_refused(monkeypatch):
    """As a fused one does where weights and gradients have other layouts: gradients alone would not show it."""
    step = SGD.step

    def turned(self, closure=None):
        for weight in (weight for group in self.param_groups for weight in group["params"] if weight.ndim == 3):
            weight.grad = weight.grad.transpose(1, 2).reshape(weight.shape)
        return step(self, closure)

    monkeypatch.setattr(SGD, "step", turned)
    with pytest.raises(Unstackable, match="their optimiser does not do"):
        Stacked(jobs_of(), first(jobs_of()))


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))],
)
def test_no_host_sync_in_a_step(device):
    # As stages make it; plain Adam reads its counters.
    jobs = jobs_of(optimiser=partial(Adam, fused=True))
    for job in jobs:
        job.model.to(device)
        job.batches = Batches(job.batches.split.to(device), 4)
    batches = [next(iter(job.batches.epoch())) for job in jobs]
    stacked = Stacked(jobs, batches)
    # In the first step optimisers make their state.
    stacked.step(side_by_side(batches))
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        with Refusing():
            losses = stacked.step(side_by_side(batches))["loss"]
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert losses.shape == (3,) and losses.device.type == device


def test_a_last_batch_of_one_that_is_left_out_is_not_written_down():
    jobs = jobs_of()
    for job, seed in zip(jobs, (1, 2, 3), strict=True):
        job.batches = Batches(split(seed, 9), 4, drop_single=True)
    assert [_sizes(job) for job in jobs] == [[4]] * 3
    jobs[0].batches = Batches(split(1, 9), 4)
    assert _sizes(jobs[0]) == [4, 1]
