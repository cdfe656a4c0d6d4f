"""Weights of ImageNet for ResNet-18: where they are found, and how a network starts from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from debias.downloads import fetch
from debias.errors import UserError

URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"  # torchvision's IMAGENET1K_V1
FILE = URL.rpartition("/")[2]
_CHECKOUT = Path(__file__).resolve().parents[2]
# Where users put files of weights: in the checkout, or below where they are, if the program is installed.
FOLDER = (_CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else Path.cwd()) / "pretrained_models"


def starts_from_imagenet(network: str) -> bool:
    """Whether a network starts from these weights, by its name in the registry."""
    return "_imagenet" in network


def find_weights(given: str | None, data_dir: str | None, cache_dir: str, instead: str) -> Path:
    """The file of weights: the one that is given, else torchvision's from a known place or a download.

    Looked for in `data_dir`, in pretrained_models/ of this program, in torch's own cache and in cache_dir/downloads.
    `instead` is what the user may write instead.

    Raises
    ------
    UserError
        A given file that is not there; or none found, and no download. It names the file and where to put it.
    """
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"imagenet_weights={given}: there is no such file")
        return Path(given)
    downloaded = Path(cache_dir) / "downloads" / FILE
    places = [FOLDER / FILE]
    places += [Path(data_dir) / FILE] if data_dir else []
    places += [Path(torch.hub.get_dir()) / "checkpoints" / FILE, downloaded]
    for place in places:
        if place.is_file():
            return place
    failure = _download(downloaded)
    if failure is None:
        return downloaded
    folder = places[1].parent if data_dir else places[0].parent
    raise UserError(
        f"the ImageNet weights of ResNet-18 were not found and could not be downloaded ({failure}). Fetch {URL} and "
        f"put {FILE} into {folder}, or give its place by imagenet_weights=FILE; or start from random weights: {instead}"
    )


def _download(target: Path) -> str | None:
    """Fetch the file and check its digest. Returns what went wrong in one line, or None."""
    checked = FILE.removesuffix(".pth").rpartition("-")[2]
    return fetch(target.parent, FILE, lambda: torch.hub.download_url_to_file(URL, str(target), hash_prefix=checked))


def start_from(network: nn.Module, path: Path) -> None:
    """Copy the weights into every ResNet-18 below `network` that is named in a spec as starting from them.

    Raises
    ------
    UserError
        A file that is damaged, holds more than tensors, or is of another network.
    """
    # Not above: torchvision imports torch's compiler, for as long as all the rest of the program takes.
    from torchvision.models import ResNet

    bodies = [module for module in network.modules() if isinstance(module, ResNet)]
    state = _read(path)
    for body in bodies:
        own = body.state_dict()
        wrong = [
            name for name, value in own.items()
            if not name.endswith("num_batches_tracked") and (name not in state or state[name].shape != value.shape)
        ]  # fmt: skip
        if wrong:
            raise UserError(f"{path}: no weights of ResNet-18 in it, or others ({wrong[0]} does not fit)")
        body.load_state_dict({name: state.get(name, value) for name, value in own.items()})


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what damaged pickles raise has no common type
        raise UserError(f"{path}: cannot be read as weights alone; is it complete? Fetch {URL}") from error
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(f"{path}: holds something else than a state dict (names with their tensors)")
    return loaded
