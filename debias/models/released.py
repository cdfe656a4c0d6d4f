"""State dicts of DeNetDM's authors, renamed to our networks (Colored MNIST, the MLP branches).

Source: the published code of DeNetDM (NeurIPS 2024), before and after its release. All of it saves a bare state dict of
a `debias_branch`, a `bias_branch` (the deep one, always numbered) and a `classifier`. What the `debias_branch` is shows
in the names of its layers:

    first layer   hidden layers            it is
    c1            s1.hidden_layers.i       the shallow branch (stage 1)
    c2            s2.hidden_layers.i       the target branch (stage 2)
    0             2.hidden_layers.i        either; the shallow branch when it has fewer layers than the bias_branch

A file of stage 2 has no shallow branch, and its classifier is the target's: the stage-1 classifier is not in it.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from debias.errors import UserError
from debias.models.registry import BACKBONES

_LAYER = re.compile(r"(debias_branch|bias_branch)\.(?:(0|c1|c2)|(2|s1|s2)\.hidden_layers\.(\d+))\.(weight|bias)")
_HEAD = re.compile(r"classifier\.(weight|bias)")
_SPELLING = {"0": "numbered", "2": "numbered", "c1": "1", "s1": "1", "c2": "2", "s2": "2"}

Layers = dict[str, Tensor]


def convert_released(loaded: Any, shape: tuple[int, int, int], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Specs and tensors in our names.

    Parameters
    ----------
    loaded
        What the file holds: the state dict, or a mapping that has it under "state_dict".
    shape
        Shape (C, H, W) of the images it is to read; the file itself knows only their number of values.
    path
        Where it was read from, for errors.

    Returns
    -------
    specs, tensors
        Stage 1: `branches`. Stage 2: `model`, the target branch, and `deep`, the frozen deep branch under the same
        classifier, where the file has it.

    Raises
    ------
    UserError
        When the file is no such state dict, is incomplete, has a tensor nobody published, or reads other images.
    """
    branches, head, spellings = _sort(_state_dict(loaded, path), path)
    missing = [f"classifier.{part}" for part in ("weight", "bias") if part not in head]
    missing += [] if "debias_branch" in branches else ["debias_branch"]
    stage_one = spellings.get("debias_branch") == "1"
    if stage_one and "bias_branch" not in branches:
        missing.append("bias_branch")
    if missing:
        raise UserError(f"checkpoint={path}: {', '.join(missing)} missing; is it a DeNetDM file, and complete?")
    networks = {name: _network(name, layers, shape, path) for name, layers in branches.items()}
    if head["weight"].ndim != 2:
        raise UserError(f"checkpoint={path}: classifier.weight is not a matrix, but {list(head['weight'].shape)}")
    common = {"shape": list(shape), "classes": len(head["weight"])}
    if spellings["debias_branch"] == "numbered" and "bias_branch" in branches:
        stage_one = len(branches["debias_branch"]) < len(branches["bias_branch"])

    if stage_one:
        spec = {"shallow": networks["debias_branch"], "deep": networks["bias_branch"], **common}
        tensors = _named("branches.shallow", branches["debias_branch"]) | _named("branches.head", head)
        return {"branches": spec}, tensors | _named("branches.deep", branches["bias_branch"])
    specs: dict[str, Any] = {}
    tensors = {}
    for ours, theirs in (("model", "debias_branch"), ("deep", "bias_branch")):
        if theirs in branches:
            read_out = "target" if ours == "model" else ours
            specs[ours] = {"backbone": networks[theirs], "read_out": read_out, **common}
            tensors |= _named(f"{ours}.backbone", branches[theirs]) | _named(f"{ours}.head", head)
    return specs, tensors


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise UserError(f"checkpoint={path}: holds something else than a state dict (names with their tensors)")
    return {name.removeprefix("module."): value for name, value in state.items()}


def _sort(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Layers], Layers, dict[str, str]]:
    """Layers of each branch in the names of `MLP`, the classifier, and the spelling each branch is written in."""
    branches: dict[str, Layers] = {}
    head: Layers = {}
    spellings: dict[str, str] = {}
    for name, value in state.items():
        if found := _HEAD.fullmatch(name):
            head[found[1]] = value
            continue
        found = _LAYER.fullmatch(name)
        if found is None:
            raise UserError(f"checkpoint={path}: unknown tensor {name!r}; only Colored MNIST weights are known so far")
        branch, entry, hidden, number, part = found.groups()
        spelling = _SPELLING[entry or hidden]
        if spellings.setdefault(branch, spelling) != spelling:
            raise UserError(f"checkpoint={path}: unknown tensor {name!r}: its {branch} is written in another way too")
        branches.setdefault(branch, {})[f"layers.{0 if entry else int(number) + 1}.{part}"] = value
    return branches, head, spellings


def _network(name: str, layers: Layers, shape: tuple[int, int, int], path: Path) -> str:
    """Our name of a branch's network, after a look at what it reads."""
    entry = layers.get("layers.0.weight")
    if entry is None or entry.ndim != 2:
        raise UserError(f"checkpoint={path}: {name} has no first layer; is it complete?")
    if entry.shape[1] != math.prod(shape):
        raise UserError(
            f"checkpoint={path}: made for images of {entry.shape[1]} values, but the data set has {math.prod(shape)} "
            f"values {shape}; choose the data set it was trained on"
        )
    depth = sum(key.endswith(".weight") for key in layers)
    network = f"mlp{depth + 1}"
    if network not in BACKBONES:
        raise UserError(f"checkpoint={path}: {name} has {depth} linear layers; there is no network {network}")
    return network


def _named(prefix: str, layers: Layers) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in layers.items()}
