import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.branches import Branches, build_branches
from debias.models.mlp import MLP
from debias.models.registry import seeded

SPEC = {"shallow": "mlp3", "deep": "mlp5", "shape": [3, 6, 5], "classes": 4}


def branches(seed: int = 0) -> Branches:
    built = seeded(lambda: build_branches(SPEC), seed)
    assert isinstance(built, Branches)
    return built


def images(n: int = 9) -> Tensor:
    return torch.rand(n, 3, 6, 5, generator=torch.Generator().manual_seed(1))


class Given(Backbone):
    """Features that do not depend on the image."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.features = len(values)
        self.register_buffer("values", torch.tensor(values))

    def forward(self, batch: Tensor) -> Tensor:
        assert isinstance(self.values, Tensor)
        return self.values.expand(len(batch), -1)


def test_hand_computed_read_outs() -> None:
    network = Branches(Given([1.0, 2.0]), Given([10.0, -20.0]), classes=2)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0]]))
        network.head.bias.copy_(torch.tensor([0.5, -1.0]))
    found = network.read_outs(torch.zeros(1, 3, 2, 2))
    # The bias of the classifier is counted once in every read-out, so poe is not the sum of the other two.
    assert {name: logits[0].tolist() for name, logits in found.items()} == {
        "poe": [11.5, 3.0],
        "shallow": [1.5, 3.0],
        "deep": [10.5, -1.0],
    }
    assert torch.equal(network(torch.zeros(1, 3, 2, 2)), found["poe"])


def test_branches_of_different_width_are_refused() -> None:
    with pytest.raises(UserError, match="100 features and the deep one 50"):
        Branches(MLP((3, 2, 2), 2), MLP((3, 2, 2), 4, width=50), classes=3)


def test_build_follows_the_spec() -> None:
    network = branches()
    assert isinstance(network.shallow, MLP) and isinstance(network.deep, MLP)
    assert (len(network.shallow.layers), len(network.deep.layers)) == (2, 4)
    assert network.shallow.layers[0].in_features == 3 * 6 * 5
    assert network(images()).shape == (9, 4)


def test_joining_keeps_names_values_and_randomness() -> None:
    plain, joined = branches(), branches().join()
    assert list(plain.state_dict()) == list(joined.state_dict())
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in joined.state_dict().items())
    assert joined._joined() is not None
    for name, logits in plain.read_outs(images()).items():
        torch.testing.assert_close(joined.read_outs(images())[name], logits)


def test_joining_keeps_the_gradients() -> None:
    plain, joined = branches(), branches().join()
    target = torch.arange(9) % 4
    for network in (plain, joined):
        cross_entropy(network(images()), target).backward()
    for (name, one), (_, other) in zip(plain.named_parameters(), joined.named_parameters(), strict=True):
        assert one.grad is not None and other.grad is not None, name
        assert one.grad.abs().sum() > 0, name
        torch.testing.assert_close(other.grad, one.grad, msg=name)


@pytest.mark.parametrize("name", ["shallow", "deep"])
def test_the_read_out_of_one_branch_leaves_the_other_alone(name: str) -> None:
    network = branches().join()
    network.read_outs(images())[name].sum().backward()
    other = network.get_submodule("deep" if name == "shallow" else "shallow")
    assert all(p.grad is None or not p.grad.any() for p in other.parameters())
    assert all(p.grad is not None and p.grad.any() for p in network.get_submodule(name).parameters())


def test_joined_branches_train_as_two_do() -> None:
    target = torch.arange(9) % 4
    plain, joined = branches(), branches().join()
    for network in (plain, joined):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
        for _ in range(5):
            cross_entropy(network(images()), target).backward()
            optimiser.step()
            optimiser.zero_grad()
    assert joined._joined() is not None
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[name], value, msg=name)
    assert not torch.equal(plain.state_dict()["deep.layers.0.weight"], branches().state_dict()["deep.layers.0.weight"])


def test_loaded_weights_reach_joined_branches() -> None:
    joined = branches(0).join()
    joined.load_state_dict(branches(1).state_dict())
    torch.testing.assert_close(joined(images()), branches(1)(images()))


def test_a_copy_is_independent() -> None:
    original = branches().join()
    before = original(images()).detach().clone()
    other = copy.deepcopy(original)
    torch.testing.assert_close(other(images()), before)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(original(images()), before)
    assert not other(images()).any()


def test_moved_branches_read_their_own_weights() -> None:
    moved = branches().join().double()
    with torch.no_grad():
        moved.get_parameter("deep.layers.0.weight").zero_()
    expected = branches().double()
    with torch.no_grad():
        expected.get_parameter("deep.layers.0.weight").zero_()
    torch.testing.assert_close(moved(images().double()), expected(images().double()))


def test_networks_that_are_no_mlp_are_not_joined() -> None:
    network = Branches(Given([1.0]), MLP((3, 2, 2), 2, width=1), classes=2).join()
    assert network._joined() is None
    assert network(torch.rand(4, 3, 2, 2)).shape == (4, 2)
