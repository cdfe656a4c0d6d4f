"""The pretended device refuses what a GPU would, wherever it is planted, and lets pass what a GPU does."""

import threading

import pytest
import torch

from debias.data.batches import Batches
from debias.training.optimisers import OPTIMISERS
from tests.pretended.cases import training
from tests.pretended.conftest import Ran
from tests.pretended.device import pretended
from tests.pretended.faulty import plant
from tests.pretended.marks import CPU, GPU, WrongDevice

ERM = training("erm")


@pytest.fixture
def seen():
    with pretended() as seen:
        yield seen


def test_results_are_where_their_inputs_are(seen):
    gpu, cpu = torch.ones(3, device="cuda"), torch.ones(3)
    assert gpu.device == GPU and (gpu + 1).device == GPU and (gpu * gpu)[1:].device == GPU and gpu.is_cuda
    assert cpu.device == CPU and (cpu + 1).device == CPU and not cpu.is_cuda
    assert cpu.to("cuda").device == GPU and gpu.cpu().device == CPU and gpu.to(torch.float64).device == GPU
    assert torch.as_tensor(cpu, device="cuda").device == GPU and cpu.device == CPU
    assert gpu.new_zeros(2).device == GPU and torch.zeros_like(gpu).device == GPU
    assert torch.nn.Linear(3, 2).to("cuda").weight.device == GPU
    weight = torch.ones(3, device="cuda", requires_grad=True)
    (weight * gpu).sum().backward()
    assert weight.grad is not None and weight.grad.device == GPU


def test_threads_pretend_too(seen):
    found = []
    thread = threading.Thread(target=lambda: found.append((torch.ones(1, device="cuda") + 1).device))
    thread.start()
    thread.join()
    assert found == [GPU]


def test_all_is_as_before_afterwards():
    before = torch.Generator, torch.autocast, torch.cuda.CUDAGraph, torch.cuda.is_available, threading.Thread.run
    with pretended():
        assert torch.cuda.is_available()
    after = torch.Generator, torch.autocast, torch.cuda.CUDAGraph, torch.cuda.is_available, threading.Thread.run
    assert before == after
    assert torch.ones(1).device == CPU


@pytest.mark.parametrize(
    "wrong",
    [
        lambda gpu, cpu: gpu + cpu,
        lambda gpu, cpu: gpu.numpy(),
        lambda gpu, cpu: cpu.index_select(0, gpu.long()),
        lambda gpu, cpu: gpu.copy_(cpu) + cpu,
        lambda gpu, cpu: torch.cat([gpu, cpu]),
        lambda gpu, cpu: torch.stack([gpu[0], torch.tensor(1.0)]),
        lambda gpu, cpu: torch.nn.Linear(3, 2)(gpu),
        lambda gpu, cpu: torch.rand(3, generator=torch.Generator(), device="cuda"),
        lambda gpu, cpu: torch.rand(3, generator=torch.Generator("cuda")),
        lambda gpu, cpu: torch.randperm(3, generator=torch.Generator(), device="cuda"),
        lambda gpu, cpu: torch.multinomial(gpu, 2, generator=torch.Generator()),
        lambda gpu, cpu: gpu.uniform_(generator=torch.Generator()),
    ],
)
def test_refuses(seen, wrong):
    with pytest.raises(WrongDevice):
        wrong(torch.ones(3, device="cuda"), torch.ones(3))
    assert len(seen.of("refused")) == 1


@pytest.mark.parametrize(
    "right",
    [
        lambda gpu, cpu: gpu + torch.tensor(2.0),
        lambda gpu, cpu: gpu * 2 + gpu.sum(),
        lambda gpu, cpu: torch.rand(3, generator=torch.Generator("cuda"), device="cuda"),
        lambda gpu, cpu: torch.rand(3, generator=torch.Generator()),
        lambda gpu, cpu: gpu.cpu().numpy(),
        lambda gpu, cpu: cpu.to(gpu.device) + gpu,
        lambda gpu, cpu: gpu.copy_(cpu),
        lambda gpu, cpu: gpu[torch.zeros(2, dtype=torch.int64, device="cuda")],
    ],
)
def test_lets_pass(seen, right):
    right(torch.ones(3, device="cuda"), torch.ones(3))
    assert not seen.of("refused")


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: float(x[0]),
        lambda x: x[0].item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: torch.ones(3).copy_(x),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: bool((x > 0).all()),
        lambda x: torch.equal(x, x),
        lambda x: torch.bincount(x.long()),
        lambda x: x.repeat_interleave(x.long()),
        lambda x: torch.cuda.synchronize(),
    ],
)
def test_sees_waits(seen, waits):
    gpu = torch.ones(3, device="cuda")
    (gpu * 2).masked_fill_(gpu > 0, 1.0)
    assert not seen.events
    waits(gpu)
    assert seen.of("wait")


@pytest.mark.parametrize(
    "copies",
    [
        lambda: torch.tensor([1.0], device="cuda"),
        lambda: torch.ones(3).to("cuda"),
        lambda: torch.ones(3).to("cuda", non_blocking=True),
        lambda: torch.ones(3).cuda(),
        lambda: torch.ones(3, device="cuda").copy_(torch.ones(3)),
        lambda: torch.ones(3, device="cuda").new_tensor([1.0]),
        lambda: torch.ones(3, device="cuda")[torch.tensor([0, 1])],
    ],
)
def test_sees_copies_of_memory_that_is_not_page_locked(seen, copies):
    torch.ones(3, pin_memory=True).to("cuda", non_blocking=True)
    torch.ones(3).pin_memory().to("cuda", non_blocking=True)
    assert not seen.events
    copies()
    assert seen.of("copy in")


def test_counts_launches(seen):
    gpu = torch.ones(4, 4, device="cuda")
    before = seen.launches.total()
    gpu.view(-1)[1:].unsqueeze(0)  # views
    torch.ones(3) * 2  # of the CPU
    torch.empty(3, device="cuda")
    assert seen.launches.total() == before
    gpu.mul_(2)
    assert seen.launches.total() == before + 1
    torch._foreach_mul_([torch.empty(1, device="cuda") for _ in range(61)], 2.0)
    assert seen.launches.total() == before + 3


# What somebody may write without noticing, as nothing of it is wrong on a CPU.
PLANTED = {
    "a tensor of the CPU": (lambda x: x + torch.ones(len(x)), "refused"),
    "a generator of the CPU": (
        lambda x: x * torch.rand(len(x), generator=torch.Generator(), device=x.device),
        "refused",
    ),
    "noise made on the CPU": (lambda x: x * torch.rand(len(x)), "refused"),
    "numpy": (lambda x: x * float(x.detach().numpy().mean()), "refused"),
    "a value read": (lambda x: x / x.max().item(), "wait"),
    "a condition": (lambda x: x if x.isfinite().all() else x.nan_to_num(), "wait"),
    "a choice by mask": (lambda x: x[x > 0], "wait"),
    "numbers of the host": (lambda x: x * torch.tensor([2.0], device=x.device), "copy in"),
}


@pytest.mark.recipe
@pytest.mark.parametrize("what", PLANTED)
def test_an_error_planted_in_a_network_is_seen(monkeypatch, run, what):
    planted, kind = PLANTED[what]
    plant(monkeypatch, lambda features: features * planted(features.mean(1)).mean())
    _check_seen(run(ERM), kind, "tests/pretended/test_device.py")


@pytest.mark.recipe
def test_positions_drawn_on_the_cpu_are_seen(monkeypatch, run):
    randperm = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *args, device=None, **options: randperm(*args, **options))
    _check_seen(run(ERM), "refused", "debias/data/batches.py")


@pytest.mark.recipe
def test_moments_that_lie_otherwise_than_weights_are_seen(monkeypatch, run):
    class Laid(torch.optim.SGD):
        def step(self, closure=None):
            for state in self.state.values():
                state["momentum_buffer"] = state["momentum_buffer"].t().contiguous().t()
            return super().step(closure)

    monkeypatch.setitem(OPTIMISERS, "sgd", Laid)
    _check_seen(run(training("erm", "sgd")), "refused", "debias/training/loop.py")


@pytest.mark.recipe
def test_images_left_on_the_cpu_are_seen(monkeypatch, run):
    prepare = Batches.prepared
    monkeypatch.setattr(Batches, "prepared", lambda *args: prepare(*args).cpu())
    _check_seen(run(ERM), "refused", "debias/models/")


def _check_seen(ran: Ran, kind: str, where: str) -> None:
    """What was planted is seen at its place, and fails: immediately, or when the step is captured."""
    assert ran.status != [0] and ran.seen.of("refused")
    assert [event for event in ran.seen.of(kind) if where in event.where], ran.seen.events
