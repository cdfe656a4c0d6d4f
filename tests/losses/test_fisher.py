"""Functional Fisher information: values by hand, the two ways to its gradient, and what happens at the edges."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from debias.losses.fisher import (
    CEILING,
    ESTIMATIONS,
    LEAST,
    LEAST_PUBLISHED,
    METHODS,
    divergence,
    neighbour_distance,
    perturbed,
    published_information,
    regularised,
    regulariser,
)


class Small(nn.Module):
    """Two modalities, one of them convolved: everything that the networks in use are made of."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 3, 3)
        self.hidden = nn.Linear(12, 5)
        self.head = nn.Linear(7, 4)
        self.double()

    def forward(self, images: Tensor, vector: Tensor) -> Tensor:
        maps = torch.relu(nn.functional.max_pool2d(self.conv(images), 2))
        return self.head(torch.cat([torch.relu(self.hidden(maps.flatten(1))), vector], 1))


def by_definition(
    logits: Tensor, probability: Tensor, inputs: Sequence[Tensor], estimation: str = "ent"
) -> list[Tensor]:
    """Functional Fisher information of every modality, averaged over the rows; it does not depend on their number.

    This goes backwards through a backward pass. `regularised` gives the same value and gradient in less time.

    Parameters
    ----------
    logits : float [R, C]
        Of the perturbed inputs, with their graph.
    probability : float [R, C]
        Softmax of the clean logits, each repeated for its samples.
    inputs : float [R, ...] each
        The perturbed modalities that `logits` were computed from.
    estimation : {"ent", "var"}
        |grad|^2 / f as in the paper, or |grad|^2.

    Returns
    -------
    A float scalar for each input, differentiable in the network's weights.
    """
    each = divergence(logits, probability)
    gradients = torch.autograd.grad(each.sum(), list(inputs), create_graph=True)
    scores = [gradient.flatten(1).square().sum(dim=1) for gradient in gradients]
    if estimation == "ent":
        scores = [score / each.clamp_min(1e-12) for score in scores]
    return [score.mean() for score in scores]


def modalities(rows: int = 6) -> list[Tensor]:
    torch.manual_seed(1)
    both = torch.rand(rows, 1, 6, 6, dtype=torch.float64), torch.rand(rows, 2, dtype=torch.float64)
    return [part.requires_grad_() for part in both]


def test_divergence_is_the_binary_cross_entropy_summed_over_classes():
    logits, probability = torch.randn(5, 3), torch.rand(5, 3)
    each = nn.functional.binary_cross_entropy_with_logits(logits, probability, reduction="none").sum(1)
    torch.testing.assert_close(divergence(logits, probability), each)
    # where softplus(z) - p z would come out negative
    sure = torch.tensor([[60.0, -60.0]])
    assert divergence(sure, torch.softmax(sure, 1)).item() >= 0


@pytest.mark.parametrize("estimation", ESTIMATIONS)
def test_the_information_of_a_linear_classifier_by_hand(estimation: str):
    """z = W x: the gradient of f is W^T (sigmoid(z) - p)."""
    weight = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    x = torch.tensor([[0.2, -0.1], [1.0, 0.4]], requires_grad=True)
    p = torch.tensor([[0.3, 0.7], [0.9, 0.1]])
    logits = x @ weight.T
    squared = ((logits.sigmoid() - p) @ weight).square().sum(1)
    expected = squared / divergence(logits, p) if estimation == "ent" else squared
    (found,) = by_definition(logits, p, [x], estimation)
    torch.testing.assert_close(found, expected.mean())


@pytest.mark.parametrize("estimation", ESTIMATIONS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", [1.0, 2.0])
def test_the_fast_way_has_the_value_and_gradient_of_the_definition(method: str, estimation: str, norm: float):
    model, inputs, weights = Small(), modalities(), [0.7, 0.3]
    clean = Small().head.weight.new_zeros(6, 4).requires_grad_()

    def both(total: Tensor) -> list[Tensor]:
        return [total.detach(), *torch.autograd.grad(total, [*model.parameters(), clean])]

    scores = by_definition(model(*inputs), torch.softmax(clean, 1), inputs, estimation)
    slow = both(regulariser(scores, weights, method, norm))
    total, found = regularised(model, torch.softmax(clean, 1), inputs, weights, method, estimation, norm)
    for fast, expected in zip(both(total), slow, strict=True):
        torch.testing.assert_close(fast, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found, [score.detach() for score in scores])
    assert not any(score.requires_grad for score in found)


def test_with_weights_of_zero_only_the_information_is_measured():
    model, inputs = Small(), modalities()
    total, found = regularised(model, torch.full((6, 4), 0.25).double(), inputs, [0.0, 0.0])
    assert total == 0 and not total.requires_grad
    assert all(score > 0 for score in found)


def test_it_does_not_depend_on_the_batch_size():
    """The same rows twice: the same information and the same regulariser."""
    model, once = Small(), modalities()
    twice = [torch.cat([part, part]).detach().requires_grad_() for part in once]
    p = torch.softmax(model(*once), 1).detach()
    one = regularised(model, p, once, [1.0, 1.0])
    two = regularised(model, torch.cat([p, p]), twice, [1.0, 1.0])
    torch.testing.assert_close(two[0], one[0])
    torch.testing.assert_close(two[1], one[1])
    # that of the published code falls with its square
    a, b = (published_information(model(*rows), q, rows) for rows, q in ((once, p), (twice, torch.cat([p, p]))))
    torch.testing.assert_close(a[0], 4 * b[0])


def test_the_published_information_is_that_of_exchanged_arguments():
    """d/dz' of BCE(input = p, target = z') is -p / (B C): the information asks nothing of the perturbed prediction."""
    model, (images, vector) = Small(), modalities()
    p = torch.softmax(torch.randn(6, 4).double(), 1)
    jacobian = torch.autograd.functional.jacobian(lambda i, v: model(i, v), (images, vector))
    by_image = torch.stack([torch.einsum("c,cxyz->xyz", p[k], jacobian[0][k, :, k]) for k in range(6)]) / 24
    by_vector = torch.stack([torch.einsum("c,cv->v", p[k], jacobian[1][k, :, k]) for k in range(6)]) / 24
    found = published_information(model(images, vector), p, [images, vector])
    torch.testing.assert_close(found[0].detach(), by_image.square().mean())
    torch.testing.assert_close(found[1].detach(), by_vector.square().sum(1).mean())
    loss = nn.functional.binary_cross_entropy_with_logits(p, model(images, vector))
    divided = published_information(model(images, vector), p, [images, vector], "ent")
    torch.testing.assert_close(divided[0], found[0] / loss)


def test_the_published_regulariser_is_that_of_a_slow_loop_in_value_and_gradient():
    """sum_m w_m / I_m at the size it has on Colored MNIST, where 1e-8 of the paper's form would swallow it."""
    torch.manual_seed(0)
    layer = nn.Linear(12, 10)
    images = [torch.rand(128, 1, 3, 3).requires_grad_(), torch.rand(128, 3).requires_grad_()]
    weights = [1e-12, 7e-11]

    rows = torch.cat([images[0].flatten(1), images[1]], dim=1)
    p = torch.softmax(layer(rows.detach()), dim=1)
    scores = published_information(layer(rows), p, images)
    assert all(1e-13 < float(score) < 1e-6 for score in scores)
    found = regulariser(scores, weights, "max_ent", 1.0, LEAST_PUBLISHED)
    # d l / d z' = -p / (rows x classes), so that the gradient by an input is that of the layer, row by row.
    slow = torch.zeros(())
    for weight, columns, per_pixel in ((weights[0], slice(0, 9), 9), (weights[1], slice(9, 12), 1)):
        total = torch.zeros(())
        for row in p:
            gradient = -(row / (128 * 10)) @ layer.weight[:, columns]
            total = total + gradient.square().sum()
        slow = slow + weight / (total / (128 * per_pixel))
    torch.testing.assert_close(found, slow, rtol=1e-4, atol=0)
    ours, theirs = (torch.autograd.grad(value, layer.weight, retain_graph=True)[0] for value in (found, slow))
    assert ours.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6 * float(theirs.abs().max()))


def test_regularisers_by_hand():
    scores, weights = [torch.tensor(0.5), torch.tensor(0.25)], [3.0, 1.0]
    assert regulariser(scores, weights, "max_ent", 2.0).item() == pytest.approx((6**2 + 4**2) ** 0.5)
    assert regulariser(scores, weights, "max_ent", 1.0).item() == pytest.approx(10)
    assert regulariser(scores, weights, "min_ent", 1.0).item() == pytest.approx(1.75)
    assert regulariser(scores, weights, "max_ent_minus", 1.0).item() == pytest.approx(4 * CEILING - 1.75)


def test_no_information_is_a_large_number_and_not_infinite():
    score = torch.zeros((), requires_grad=True)
    total = regulariser([score], [1.0], "max_ent")
    total.backward()
    assert total.item() == pytest.approx(1 / LEAST)
    assert score.grad is not None and torch.isfinite(score.grad)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("estimation", ESTIMATIONS)
def test_probabilities_that_underflow_leave_it_finite(size: float, estimation: str):
    """A network that is so sure that probabilities are 0 and 1 to the last bit, here and beside."""
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight.mul_(size)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    p = torch.softmax(layer(x), 1)
    assert (p == 0).any()
    total, scores = regularised(layer, p, [x], [1.0], "max_ent", estimation)
    assert torch.isfinite(total) and all(torch.isfinite(score) for score in scores)
    gradients = torch.autograd.grad(total, list(layer.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_distance_to_the_nearest_other_rows_by_hand():
    rows = torch.tensor([0.0, 1.0, 3.0, 7.0]).view(4, 1)
    assert neighbour_distance(rows, 1).tolist() == pytest.approx([1, 1, 2, 4])
    assert neighbour_distance(rows, 2).tolist() == pytest.approx([2, 1.5, 2.5, 5])
    # fewer others than asked for: all of them
    assert neighbour_distance(rows, 21).tolist() == pytest.approx([11 / 3, 3, 3, 17 / 3])
    assert neighbour_distance(rows, 1, first=2).tolist() == pytest.approx([1, 1])
    assert neighbour_distance(rows[:1], 21).tolist() == [0]


def test_the_published_neighbours_are_the_21_nearest_distinct_rows():
    """k = 219 among ten copies of each row is (10 / 219) times the sum over the 21 nearest others."""
    torch.manual_seed(0)
    rows = torch.rand(40, 5)
    copies = rows.repeat_interleave(10, 0)
    among_copies = torch.cdist(copies, copies, compute_mode="donot_use_mm_for_euclid_dist")
    k_nearest = among_copies.sort(1).values[:, 1:220].mean(1)[::10]
    torch.testing.assert_close(k_nearest, neighbour_distance(rows, 21) * 210 / 219)


def test_perturbed_rows_are_copies_with_noise_of_their_own_size():
    rows = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 40, 50)
    deviation = torch.tensor([0.0, 1.0, 5.0])
    near = perturbed(rows, deviation, 2, torch.Generator().manual_seed(0))
    assert near.requires_grad and near.is_leaf and near.shape == (6, 1, 40, 50)
    noise = near.detach() - rows.repeat_interleave(2, 0)
    assert noise[:2].abs().max() == 0
    assert noise.flatten(1).std(1).tolist() == pytest.approx([0, 0, 1, 1, 5, 5], rel=0.1)
    assert not torch.equal(noise[2], noise[3])
