import copy
import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.gates import Sampling, add_gates, apply_mask, fold_mask

SAMPLINGS: list[Sampling] = ["textbook", "reference"]


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 5)
    )


def images(n: int = 8) -> Tensor:
    return torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spread(gates) -> None:
    """Logits on both sides of 0, so that the masks are not trivial."""
    for i, logit in enumerate(gates.parameters()):
        nn.init.normal_(logit, std=2.0, generator=generator(i))


def weight(network: nn.Module, layer: str) -> nn.Parameter:
    found = network.get_submodule(layer).weight
    assert isinstance(found, Tensor)
    return cast(nn.Parameter, found)


def noise_of(layer: nn.Module) -> Tensor:
    (gate,) = layer.get_submodule("parametrizations.weight").children()
    assert isinstance(gate.noise, Tensor)
    return gate.noise.double()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_straight_through_gradient_against_the_formula(sampling: Sampling, temperature: float) -> None:
    layer = nn.Linear(7, 3, bias=False)
    gates = add_gates(layer, sampling, temperature=temperature)
    spread(gates)
    gates.sample(generator())
    x = torch.randn(11, 7)
    layer(x).square().sum().backward()

    (pi,) = gates.parameters()
    frozen = layer.get_parameter("parametrizations.weight.original").double()
    level = pi.detach().double().requires_grad_()
    a = level.sigmoid() if sampling == "reference" else level
    soft = ((a + noise_of(layer)) / temperature).sigmoid()
    mask = (soft > 0.5).double()
    assert 0 < mask.mean() < 1
    outer = 2 * (x.double() @ (frozen * mask).T).T @ x.double()
    soft.backward(outer * frozen)
    assert pi.grad is not None and level.grad is not None
    torch.testing.assert_close(pi.grad.double(), level.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.weight.double(), frozen * mask)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("logit", [-4.0, 0.0, 1.5])
def test_keep_frequency_is_the_closed_form(sampling: Sampling, logit: float) -> None:
    layer = nn.Linear(500, 400)
    nn.init.ones_(layer.weight)
    gates = add_gates(layer, sampling, init=logit)
    gates.sample(generator())
    p = 1 / (1 + math.exp(-logit))
    if sampling == "reference":
        p = 1 / (1 + math.exp(-p))
    bound = 5 * math.sqrt(p * (1 - p) / gates.count)
    assert layer.weight.detach().mean().item() == pytest.approx(p, abs=bound)
    torch.testing.assert_close(gates.keep_probabilities()[""], torch.full((400, 500), p))


def test_only_gates_get_gradients_until_the_mask_is_folded() -> None:
    network = small_network()
    network.get_parameter("1.bias").requires_grad_(False)
    gates = add_gates(network, "textbook")
    gates.sample(generator())
    network(images()).square().mean().backward()
    assert all(pi.grad is not None and pi.grad.abs().max() > 0 for pi in gates.parameters())
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trainable == [f"{name}.parametrizations.weight.0.logit" for name in ("0", "4")]
    assert sum(parameter.grad is not None for parameter in network.parameters()) == len(gates.parameters())

    fold_mask(network, gates.mask())
    frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert frozen == ["1.bias"]


def test_hard_and_folded_network_give_the_same_and_have_plain_names() -> None:
    network, plain = small_network(), small_network()
    weights = [weight(network, name) for name in ("0", "4")]
    gates = add_gates(network, "textbook")
    x = images()
    network.eval(), plain.eval()
    assert torch.equal(network(x), plain(x))
    spread(gates)
    mask = gates.mask()
    hard = network(x)
    assert not torch.equal(hard, plain(x))

    gates.sample(generator())
    assert not torch.equal(network(x), hard)
    gates.hard()
    assert torch.equal(network(x), hard)

    fold_mask(network, mask)
    assert torch.equal(network(x), hard)
    assert list(network.state_dict()) == list(plain.state_dict())
    assert weight(network, "0") is weights[0] and weight(network, "4") is weights[1]
    assert weight(network, "0").eq(0).equal(~mask["0"])

    fold_mask(plain, mask)
    assert torch.equal(plain(x), hard)


def test_hard_mask_keeps_zero_and_reports_what_it_removes() -> None:
    network = small_network()
    gates = add_gates(network, "reference")
    conv, linear = gates.parameters()
    with torch.no_grad():
        conv.flatten()[:27] = -1e-6
        linear.zero_()
    assert gates.names == ("0", "4") and gates.count == 108 + 320
    assert gates.mask()["4"].all()
    overall, layers = gates.sparsity()
    assert overall == pytest.approx(27 / 428)
    assert layers == pytest.approx({"0": 0.25, "4": 0.0})


def test_logits_and_their_sum() -> None:
    gates = add_gates(small_network(), "textbook")
    assert gates.logits().shape == (428,)
    assert gates.logit_sum().item() == pytest.approx(1.5 * 428)
    spread(gates)
    total = gates.logit_sum()
    assert total.item() == pytest.approx(gates.logits().sum().item(), rel=1e-5)
    total.backward()
    assert all(pi.grad is not None and pi.grad.eq(1).all() for pi in gates.parameters())


def test_the_generator_alone_decides_the_masks() -> None:
    def masks(seed: int, draws: int) -> list[Tensor]:
        network = small_network()
        gates, source = add_gates(network, "textbook"), generator(seed)
        out = []
        for _ in range(draws):
            gates.sample(source)
            out.append(torch.cat([weight(network, "0").flatten(), weight(network, "4").flatten()]).detach())
            assert torch.equal(weight(network, "0").flatten(), out[-1][:108])
        return out

    first, again = masks(3, 2), masks(3, 2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], masks(4, 1)[0])


def test_noise_differs_between_layers_and_is_finite() -> None:
    network = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 300))
    add_gates(network, "textbook").sample(generator())
    first, second = noise_of(network[0]), noise_of(network[1])
    assert torch.isfinite(first).all() and not torch.equal(first, second)
    # Standard logistic: mean 0, variance pi^2 / 3.
    assert first.mean().item() == pytest.approx(0, abs=0.03)
    assert first.var().item() == pytest.approx(math.pi**2 / 3, rel=0.03)


def test_extreme_logits_and_draws_stay_finite() -> None:
    layer = nn.Linear(6, 4)
    gates = add_gates(layer, "textbook")
    (pi,) = gates.parameters()
    with torch.no_grad():
        pi.copy_(torch.linspace(-1e4, 1e4, 24).view_as(pi))
    gates.sample(generator())
    layer(torch.ones(2, 6)).sum().backward()
    assert pi.grad is not None and torch.isfinite(pi.grad).all()
    assert torch.isfinite(gates.keep_probabilities()[""]).all()


def test_two_sets_of_gates_learn_as_one_stacked_network() -> None:
    network = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    gates = add_gates(network, "reference")
    x = torch.randn(6, 5)
    logits, noise, want = [], [], []
    for seed in range(2):
        spread(gates)
        gates.sample(generator(seed))
        loss = network(x).square().sum()
        want.append(torch.autograd.grad(loss, gates.parameters()))
        logits.append({n: p.detach().clone() for n, p in network.named_parameters() if n.endswith("logit")})
        noise.append({n: b.clone() for n, b in network.named_buffers() if n.endswith("noise")})

    def loss_of(logit: dict[str, Tensor], noise: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(network, logit | noise, (x,)).square().sum()

    stacked = [{k: torch.stack([d[k] for d in dicts]) for k in dicts[0]} for dicts in (logits, noise)]
    got = torch.vmap(torch.func.grad(loss_of))(*stacked)
    for seed in range(2):
        for gradient, expected in zip(got.values(), want[seed], strict=True):
            torch.testing.assert_close(gradient[seed], expected)


def test_no_value_is_asked_of_the_device_in_a_step() -> None:
    # A meta tensor has no values, so .item() and indexing by a bool mask raise.
    network = small_network().to("meta")
    gates = add_gates(network, "reference")
    gates.sample(generator())
    (network(torch.empty(2, 3, 6, 6, device="meta")).mean() + 1e-8 * gates.logit_sum()).backward()
    assert all(pi.grad is not None for pi in gates.parameters())


def test_a_gated_network_can_be_copied_saved_and_loaded() -> None:
    network = small_network()
    gates = add_gates(network, "textbook")
    spread(gates)
    gates.sample(generator())
    other = small_network()
    other_gates = add_gates(other, "textbook")
    other.load_state_dict(network.state_dict())
    assert torch.equal(other_gates.logits(), gates.logits())
    assert torch.equal(weight(copy.deepcopy(network), "4"), weight(network, "4"))


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_pruned_weights_stay_at_zero_while_the_rest_is_trained(kind: str) -> None:
    network = small_network()
    gates = add_gates(network, "textbook")
    spread(gates)
    mask = gates.mask()
    fold_mask(network, mask)
    handles = apply_mask(network, mask)
    before = weight(network, "0").detach().clone()
    weights = network.parameters()
    optimiser: torch.optim.Optimizer = (
        torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-2)
        if kind == "momentum"
        else torch.optim.AdamW(weights, lr=1e-2)
    )

    def step() -> None:
        optimiser.zero_grad()
        network(images()).square().mean().backward()
        optimiser.step()

    for _ in range(5):
        step()
    for name in ("0", "4"):
        assert weight(network, name)[~mask[name]].eq(0).all()
    assert weight(network, "0")[mask["0"]].ne(before[mask["0"]]).all()

    for handle in handles:
        handle.remove()
    step()
    assert weight(network, "0")[~mask["0"]].ne(0).any()


def test_masked_gradient_is_that_of_the_masked_weight() -> None:
    network, product = small_network(), small_network()
    mask = {"0": torch.rand(4, 3, 3, 3) > 0.5, "4": torch.rand(5, 64) > 0.5}
    fold_mask(network, mask)
    apply_mask(network, mask)
    network(images()).square().mean().backward()
    masked = {"0.weight": weight(product, "0") * mask["0"], "4.weight": weight(product, "4") * mask["4"]}
    torch.func.functional_call(product, masked, (images(),)).square().mean().backward()
    torch.testing.assert_close(weight(network, "0").grad, weight(product, "0").grad)
    torch.testing.assert_close(weight(network, "4").grad, weight(product, "4").grad)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask.pop("0"), "layer '0' of the network is missing"),
        (lambda mask: mask.update(head=mask["4"]), "layer 'head' of the mask is not in the network"),
        (lambda mask: mask.update({"4": mask["4"][:2]}), r"layer '4' has weights of shape \(5, 64\), .* \(2, 64\)"),
    ],
)
@pytest.mark.parametrize("use", [fold_mask, apply_mask])
def test_mask_of_another_network(use, change, message: str) -> None:
    network = small_network()
    gates = add_gates(network, "textbook")
    mask = {name: ~kept for name, kept in gates.mask().items()}
    if use is apply_mask:
        fold_mask(network, gates.mask())
    before = copy.deepcopy(network.state_dict())
    change(mask)
    with pytest.raises(UserError, match=message):
        use(network, mask)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(UserError, match=r"'soft'.*textbook, reference"):
        add_gates(small_network(), "soft")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="temperature"):
        add_gates(small_network(), "textbook", temperature=0.0)
    with pytest.raises(UserError, match="no convolution or linear layer"):
        add_gates(nn.ReLU(), "textbook")
    network = small_network()
    gates = add_gates(network, "textbook")
    with pytest.raises(ValueError, match="already"):
        add_gates(network, "textbook")
    with pytest.raises(ValueError, match="fold_mask"):
        apply_mask(network, gates.mask())
