"""What `features=auto` means: a pretrained network where that helps and one is there, said in a line; else images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from debias.digests import digest_of_file
from debias.errors import UserError
from debias.features.loading import AUTO, NONE
from debias.features.source import Source, find_source, local_file, remedy
from debias.models.checkpoint import read_description
from debias.models.embedders import KNOWN
from debias.models.onfeatures import TAKES, TRAINED
from debias.models.registry import FLAT

# Smaller images show a network that was trained on photographs little.
SMALLEST = 64
_NETWORKS = ("network", "shallow", "deep")


class Choice(NamedTuple):
    """value : of the setting `features`; line : what is said of it"""

    value: str
    line: str


def choose(given: Mapping[str, Any], on_images: Sequence[str] = ()) -> Choice:
    """What `auto` is for a run.

    given : settings by dotted path, as far as the user said them
    on_images : names of the run's stages that cannot train on features
    """
    if given.get("checkpoint") is not None:
        return _as_trained(Path(str(given["checkpoint"])), given)
    if on_images:
        return _images(f"the stage {on_images[0]} acts on images")
    device = str(given.get("device", "auto"))
    if device != "cpu" and not (device == "auto" and not torch.cuda.is_available()):
        return _images("networks are trained on the images themselves, as there is a GPU")
    if isinstance(size := given.get("image_size"), int) and size < SMALLEST:
        return _images(f"images of {size} pixels are too small for pretrained networks")
    for path, value in given.items():
        if path.rpartition(".")[2] in _NETWORKS and value not in FLAT:
            return _images(f"{path}={value} is trained on images")
    if given.get("augment") not in (None, NONE, "views"):
        return _images(f"augment={given['augment']} changes images")
    data_dir, cache_dir = given.get("data_dir"), str(given.get("cache_dir", ".cache"))
    for name, known in KNOWN.items():
        if local_file(name, None if data_dir is None else str(data_dir), cache_dir) is not None:
            return Choice(
                name, f"features: {known.words}, in place of images (features={NONE}: networks trained on the images)"
            )
    first = next(iter(KNOWN))
    return _images(f"no pretrained network is on this machine; with one a CPU is far better: {remedy(first)}")


def last_block_of(value: str) -> str:
    """The network that is trained on features of that value of the setting by default; empty for `linear`."""
    return TRAINED.get(value.partition("@")[0], "")


def _images(why: str) -> Choice:
    return Choice(NONE, f"features={NONE}: {why}")


def _as_trained(checkpoint: Path, given: Mapping[str, Any]) -> Choice:
    """What weights that are there were trained on. What is wrong with their file is said where it is read."""
    try:
        about = read_description(checkpoint).features
    except UserError:
        about = None
    if about is None:
        return _images(f"{checkpoint.name} was trained on images")
    data_dir, cache_dir = given.get("data_dir"), str(given.get("cache_dir", ".cache"))
    source = source_of(about, None, None if data_dir is None else str(data_dir), cache_dir)
    published = source.network in KNOWN and source.digest.startswith(KNOWN[source.network].digest)
    value = source.network if published else f"{source.network}@{source.file}"
    return Choice(value, f"features: {source.words}, as {checkpoint.name} was trained")


def source_of(about: Mapping[str, Any], asked: str | None, data_dir: str | None, cache_dir: str) -> Source:
    """The network that gave the features which a model was trained on, by what its file says (`Source.about`).

    asked : a value of the setting `features` that says where the weights are; None, none or auto: where they were, or
        where published ones are looked for

    Raises
    ------
    UserError
        No such weights, or others: which they must be.
    """
    name, digest = str(about["network"]), str(about["digest"])
    wanted = f"its features are those of {name} with weights whose SHA-256 begins with {digest[:16]}"
    if asked not in (None, NONE, AUTO):
        source = find_source(str(asked), data_dir, cache_dir)
        if (source.network, source.digest) != (name, digest):
            raise UserError(f"features={asked}: not what the model was trained on: {wanted}")
        return source
    places = [Path(str(about["file"]))] if about.get("file") else []
    if name in KNOWN and (found := local_file(name, data_dir, cache_dir)) is not None:
        places.insert(0, found)
    for place in places:
        if place.is_file() and digest_of_file(place) == digest:
            return Source(name, place, digest)
    if name in KNOWN and digest.startswith(KNOWN[name].digest):
        return find_source(name, data_dir, cache_dir)
    raise UserError(f"{wanted}, which are not on this machine: set features={name}@FILE")


def start_last_block(
    backbone: nn.Module, name: str, about: Mapping[str, Any] | None, settings: Mapping[str, Any]
) -> None:
    """Give a fresh network that is the last block of a pretrained one the weights that it has there; others stay.

    name : of the network; about : what the task says of its features; settings : of the run

    Raises
    ------
    UserError
        The features are not those that it takes, or their file is gone.
    """
    if name not in TAKES:
        return
    if about is None or about["network"] != TAKES[name]:
        raise UserError(f"{name} is trained on features={TAKES[name]}")
    data_dir, cache_dir = settings.get("data_dir"), str(settings.get("cache_dir", ".cache"))
    source = source_of(about, None, None if data_dir is None else str(data_dir), cache_dir)
    backbone.load_state_dict(source.last_block(name))
