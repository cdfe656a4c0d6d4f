"""Networks by name. A spec is plain data, so that a stored model can be rebuilt without executing anything."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.cnn import CNN
from debias.models.divided import Divided
from debias.models.dual import Dual
from debias.models.lastblock import LastBlock
from debias.models.lenet import LeNet
from debias.models.lntl import ConvNet
from debias.models.mlp import MLP
from debias.models.onfeatures import Flat, Hidden
from debias.models.resnet import CifarResNet, ResNet18
from debias.models.shallow import ShallowCifar, ShallowFaces
from debias.models.simpleconv import SimpleConv
from debias.settings import nearest

BACKBONES: dict[str, Callable[[tuple[int, int, int]], Backbone]] = {
    # Papers count the classifier too. The one of LfF, DisEnt and their baselines is mlp4.
    "mlp3": lambda shape: MLP(shape, layers=2),
    "mlp4": lambda shape: MLP(shape, layers=3),
    "mlp5": lambda shape: MLP(shape, layers=4),
    "mlp3_divided": lambda shape: Divided(MLP(shape, layers=2)),
    "mlp4_divided": lambda shape: Divided(MLP(shape, layers=3)),
    "mlp5_divided": lambda shape: Divided(MLP(shape, layers=4)),
    "cnn": lambda shape: CNN(shape[0]),
    "end_cnn": lambda shape: SimpleConv(shape[0]),
    "end_cnn_small": lambda shape: SimpleConv(shape[0], kernel=3, stride=2, widths=(8, 16, 32, 64)),
    "rebias_cnn": lambda shape: SimpleConv(shape[0], unit=False),
    "rebias_cnn_small": lambda shape: SimpleConv(shape[0], kernel=3, stride=2, unit=False, widths=(8, 16, 32, 64)),
    # These see single pixels: colours and no shapes.
    "rebias_cnn_1x1": lambda shape: SimpleConv(shape[0], kernel=1, unit=False),
    "rebias_cnn_1x1_small": lambda shape: SimpleConv(shape[0], kernel=1, stride=2, unit=False, widths=(8, 16, 32, 64)),
    "resnet20": lambda shape: CifarResNet(shape[0]),
    "shallow_cifar": ShallowCifar,
    "shallow_faces": ShallowFaces,
    "resnet18": lambda shape: ResNet18(),
    "resnet18_64": lambda shape: ResNet18(projected=64),
    # The same networks; what makes them start from ImageNet's weights is stages.common.classifier: a network that
    # is rebuilt for stored weights needs no file.
    "resnet18_imagenet": lambda shape: ResNet18(),
    "resnet18_imagenet_64": lambda shape: ResNet18(projected=64),
    "lenet": LeNet,
    "convnet": ConvNet,
    # For features of a pretrained network: the classifier alone, on late or early ones, and behind a hidden layer.
    "linear": Flat,
    "linear_early": lambda shape: Flat(shape, early=True),
    "mlp_features": Hidden,
    # The last block of a pretrained network, on what comes out of the rest of it.
    "efficientnet_lite0_last": lambda shape: LastBlock("efficientnet_lite0_last", shape),
    "resnet18_last": lambda shape: LastBlock("resnet18_last", shape),
    "resnet50_last": lambda shape: LastBlock("resnet50_last", shape),
    # Two encoders of one kind (DisEnt).
    "dual_mlp3": lambda shape: Dual(MLP(shape, layers=2), MLP(shape, layers=2)),
    "dual_mlp4": lambda shape: Dual(MLP(shape, layers=3), MLP(shape, layers=3)),
    "dual_mlp5": lambda shape: Dual(MLP(shape, layers=4), MLP(shape, layers=4)),
    "dual_mlp3_divided": lambda shape: Dual(Divided(MLP(shape, layers=2)), Divided(MLP(shape, layers=2))),
    "dual_mlp4_divided": lambda shape: Dual(Divided(MLP(shape, layers=3)), Divided(MLP(shape, layers=3))),
    "dual_mlp5_divided": lambda shape: Dual(Divided(MLP(shape, layers=4)), Divided(MLP(shape, layers=4))),
    "dual_mlp_features": lambda shape: Dual(Hidden(shape), Hidden(shape)),
    "dual_resnet20": lambda shape: Dual(CifarResNet(shape[0]), CifarResNet(shape[0])),
    "dual_resnet18": lambda shape: Dual(ResNet18(), ResNet18()),
}
# Networks that take any vector: values, not images with neighbouring pixels.
FLAT = (
    "mlp3", "mlp4", "mlp5", "mlp3_divided", "mlp4_divided", "mlp5_divided", "linear", "linear_early", "mlp_features",
    "efficientnet_lite0_last", "resnet18_last", "resnet50_last",
    "dual_mlp3", "dual_mlp4", "dual_mlp5", "dual_mlp3_divided", "dual_mlp4_divided", "dual_mlp5_divided",
    "dual_mlp_features",
)  # fmt: skip

Inputs = Tensor | tuple[Tensor, Tensor]


class Classifier(nn.Module):
    """A backbone and a linear head; a second modality joins the backbone's features in front of the head.

    `features(inputs)` is what regularisers and miners read; `forward` gives logits [B, classes]. Inputs are images
    [B, C, H, W], or images and vectors [B, vector].
    """

    def __init__(self, backbone: Backbone, classes: int, vector: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.features + vector, classes)

    def features(self, inputs: Inputs) -> Tensor:
        """Features [B, F], or with a second modality [B, F + vector]."""
        if isinstance(inputs, Tensor):
            return self.backbone(inputs)
        images, vector = inputs
        return torch.cat([self.backbone(images), vector], dim=1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.features(inputs))


def build_backbone(name: str, shape: tuple[int, int, int]) -> Backbone:
    """A fresh backbone by its name; its attribute `features` is the number of features it gives.

    Raises
    ------
    UserError
        When no network has that name.
    """
    if name not in BACKBONES:
        raise UserError(f"no network is called {name!r}; there are {', '.join(BACKBONES)}{nearest(name, BACKBONES)}")
    return BACKBONES[name](shape)


def build_classifier(spec: Mapping[str, Any]) -> Classifier:
    """The classifier a spec describes: {"backbone": name, "shape": [C, H, W], "classes": n}, and "vector": size."""
    channels, height, width = (int(side) for side in spec["shape"])
    backbone = build_backbone(str(spec["backbone"]), (channels, height, width))
    return Classifier(backbone, int(spec["classes"]), int(spec.get("vector", 0)))


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build with the default initialisation drawn from `seed`, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
