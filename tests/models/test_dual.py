import torch

from debias.models.dual import Dual
from debias.models.mlp import MLP


def test_features_of_both_side_by_side() -> None:
    torch.manual_seed(0)
    network = Dual(MLP((3, 4, 4), layers=1, width=5), MLP((3, 4, 4), layers=2, width=7))
    images = torch.rand(6, 3, 4, 4)
    features = network(images)
    assert network.features == 12
    assert torch.equal(features[:, :5], network.target(images)) and torch.equal(features[:, 5:], network.bias(images))
