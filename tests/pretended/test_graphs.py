"""A pretended CUDA graph replays what was captured, to the last bit, and refuses what a GPU's would."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from debias.training.optimisers import make_optimiser
from tests.pretended.device import pretended
from tests.pretended.marks import WrongDevice


@pytest.fixture
def seen():
    with pretended() as seen:
        yield seen


class Training:
    """A small training whose step reads a buffer of positions, draws at random, and sums its losses."""

    def __init__(self, optimiser: str = "adam") -> None:
        torch.manual_seed(0)
        self.images, self.target = torch.rand(100, 12).to("cuda"), torch.randint(10, (100,)).to("cuda")
        layers = (nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 10))
        self.model = nn.Sequential(*layers).to("cuda")
        self.rate = torch.full((), 1e-2, device="cuda")
        self.optimiser = make_optimiser(
            optimiser,
            self.model.parameters(),
            learning_rate=self.rate,
            weight_decay=1e-4,  # type: ignore[arg-type]
        )
        self.generator = torch.Generator("cuda").manual_seed(3)
        self.index = torch.zeros(32, dtype=torch.int64, device="cuda")
        self.total = torch.zeros((), device="cuda")

    def step(self, planted: Callable[[Tensor], Tensor] = lambda loss: loss) -> Tensor:
        images = self.images.index_select(0, self.index)
        images = images + 0.1 * torch.rand(images.shape, generator=self.generator, device="cuda")
        loss = planted(cross_entropy(self.model(images), self.target.index_select(0, self.index)))
        loss.backward()
        self.optimiser.step()
        for weight in self.model.parameters():
            weight.grad = None
        self.total.add_(loss.detach())
        return loss.detach()

    def next(self) -> None:
        """Other positions, and a smaller rate."""
        self.index.copy_(torch.randperm(100, generator=self.generator, device="cuda")[:32])
        self.rate.mul_(0.9)

    def warmed_up(self) -> "Training":
        for _ in range(2):
            self.next()
            self.step()
        return self

    def captured(self, planted: Callable[[Tensor], Tensor] = lambda loss: loss) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph):
            loss = self.step(planted)
        return graph, loss

    def state(self) -> list[Tensor]:
        state = [*self.model.state_dict().values(), self.total, self.generator.get_state()]
        moments = [value for of_one in self.optimiser.state.values() for value in of_one.values()]
        return [value.detach().clone() for value in (*state, *moments)]


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_replays_are_steps_to_the_last_bit(seen, optimiser):
    eager = Training(optimiser).warmed_up()
    losses = []
    for _ in range(5):
        eager.next()
        losses.append(eager.step())
    replayed = Training(optimiser).warmed_up()
    graph, loss = replayed.captured()
    for own in losses:
        replayed.next()
        graph.replay()
        assert torch.equal(own, loss)
    assert len({float(own) for own in losses}) == 5 and all(map(torch.equal, eager.state(), replayed.state()))
    assert seen.captures[""] == 1 and seen.replays[""] == 5 and not seen.of("refused")


def test_a_replay_is_one_launch(seen):
    training = Training().warmed_up()
    before = seen.launches.total()
    graph, _ = training.captured()
    assert seen.launches.total() == before
    graph.replay()
    assert seen.launches.total() == before + 1


def test_a_capture_changes_nothing(seen):
    training = Training().warmed_up()
    before = training.state()
    _, loss = training.captured()
    assert all(map(torch.equal, before, training.state()))
    assert loss.isnan()  # until the first replay


def test_a_replay_reads_what_is_there_then(seen):
    x, buffer = torch.ones(3, device="cuda"), torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        view = buffer[1:]  # stays a view
        view.add_(x[1:])
        doubled = torch.cat([buffer, buffer.view(-1)])
    x.fill_(5)
    graph.replay()
    graph.replay()
    assert buffer.tolist() == [0, 10, 10] and view.tolist() == [10, 10] and doubled.tolist() == [0, 10, 10] * 2
    view.zero_()
    assert buffer.tolist() == [0, 0, 0]


def test_what_the_host_does_is_not_repeated(seen):
    counter = torch.zeros(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.ones(1, device="cuda").add_(1)
        counter.add_(1)
    graph.replay()
    assert counter.item() == 1


REFUSED = {
    "a value read": lambda loss: loss / loss.item(),
    "a condition": lambda loss: loss if loss > 0 else -loss,
    "a choice by mask": lambda loss: loss[loss > 0].sum(),
    "a copy to the host": lambda loss: loss + loss.detach().cpu().mean().to("cuda"),
    "numbers of the host": lambda loss: loss * torch.tensor(2.0, device="cuda"),
    "memory that is not page-locked": lambda loss: loss * torch.ones(1).to("cuda", non_blocking=True).mean(),
    "another generator": lambda loss: loss * torch.rand(1, generator=torch.Generator("cuda"), device="cuda").mean(),
    "a seed": lambda loss: loss * torch.manual_seed(1).initial_seed(),
    "synchronize": lambda loss: loss if torch.cuda.synchronize() is None else -loss,
    "a tensor of the CPU": lambda loss: (loss + torch.ones(2)).mean(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_in_a_capture(seen, what):
    training = Training().warmed_up()
    before = training.state()
    with pytest.raises(WrongDevice):
        training.captured(REFUSED[what])
    assert not torch.cuda.is_current_stream_capturing()
    for weight in training.model.parameters():
        weight.grad = None
    assert all(map(torch.equal, before, training.state()))
    training.next()
    assert training.step(REFUSED[what] if what != "a tensor of the CPU" else lambda loss: loss).isfinite()


def test_lets_draws_of_the_default_generator_pass(seen):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = torch.rand(1000, device="cuda")
    torch.manual_seed(1)
    eager = torch.rand(1000, device="cuda")
    torch.manual_seed(1)
    graph.replay()
    assert torch.equal(drawn, eager)


def test_lets_page_locked_memory_pass(seen):
    buffer, host = torch.zeros(3, device="cuda"), torch.ones(3, pin_memory=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        buffer.copy_(host, non_blocking=True)
    host.fill_(7)
    graph.replay()
    assert buffer.tolist() == [7, 7, 7]


def test_refuses_memory_that_was_given_back(seen):
    x = torch.ones(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        total = x.sum()
    graph.replay()
    assert total.item() == 3
    x = torch.ones(3, device="cuda")  # not `copy_`: the graph goes on to read where the old one was
    with pytest.raises(WrongDevice, match="given back"):
        graph.replay()
    assert x.is_cuda


def test_refuses_a_number_on_the_cpu_that_has_changed(seen):
    factor, x = torch.tensor(2.0), torch.ones(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        product = x * factor
    graph.replay()
    assert product.tolist() == [2, 2, 2]
    factor.fill_(3)
    with pytest.raises(WrongDevice, match="number"):
        graph.replay()


def test_refuses_moments_that_were_replaced(seen):
    training = Training().warmed_up()
    graph, _ = training.captured()
    training.optimiser.load_state_dict(copy.deepcopy(training.optimiser.state_dict()))
    with pytest.raises(WrongDevice, match="given back"):
        graph.replay()


def test_refuses_a_step_that_is_not_capturable(seen):
    weight = torch.ones(3, device="cuda", requires_grad=True)
    for options, fails in (({}, True), ({"capturable": True}, False)):
        optimiser = torch.optim.Adam([weight], lr=torch.full((), 0.1, device="cuda"), foreach=False, **options)
        weight.grad = torch.ones(3, device="cuda")
        optimiser.step()
        graph = torch.cuda.CUDAGraph()
        if fails:
            with pytest.raises(WrongDevice, match="capturable"), torch.cuda.graph(graph):
                optimiser.step()
        else:
            with torch.cuda.graph(graph):
                optimiser.step()
            graph.replay()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda graph: graph.replay(),
        lambda graph: graph.capture_end(),
        lambda graph: graph.capture_begin(),
        lambda graph: graph.register_generator_state(torch.Generator()),
    ],
)
def test_refuses_calls_out_of_order(seen, wrong):
    with pytest.raises(WrongDevice):
        wrong(torch.cuda.CUDAGraph())


def test_refuses_a_capture_or_a_replay_inside_a_capture(seen):
    done, graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(done):
        torch.ones(1, device="cuda")
    with pytest.raises(WrongDevice), torch.cuda.graph(graph):
        done.replay()
    with pytest.raises(WrongDevice), torch.cuda.graph(graph), torch.cuda.graph(torch.cuda.CUDAGraph()):
        pass
    assert not torch.cuda.is_current_stream_capturing()
    done.replay()
