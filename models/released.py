"""State dicts of DeNetDM's authors, renamed to our networks (Colored MNIST, the MLP branches)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from errors import UserError

# Their two spellings of a branch: numbered (0 the first layer, 2 the hidden ones) and named (c1 or c2 the first layer,
# s1 or s2 the hidden ones).
_ENTRY = re.compile(r"^(debias_branch|bias_branch|target_branch)\.(?:0|c1|c2)\.(weight|bias)$")
_HIDDEN = re.compile(r"^(debias_branch|bias_branch|target_branch)\.(?:2|s1|s2)\.hidden_layers\.(\d+)\.(weight|bias)$")
_HEAD = re.compile(r"^classifier\.(weight|bias)$")


def convert_released(loaded: Any, shape: tuple[int, int, int], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Specs and tensors in our names.

    A file of stage 1 has two branches of different depth: `debias_branch`, the shallow one, and `bias_branch`, the deep
    one. In a file of stage 2 `debias_branch` is the target branch; it is as deep as the deep one.

    Raises
    ------
    UserError
        When the file is no such state dict, or a name in it is unknown.
    """
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(f"checkpoint={path}: holds something else than a state dict")
    branches: dict[str, dict[str, Tensor]] = {}
    head: dict[str, Tensor] = {}
    for name, value in loaded.items():
        name = name.removeprefix("module.")
        if found := _ENTRY.match(name):
            branches.setdefault(found[1], {})[f"layers.0.{found[2]}"] = value
        elif found := _HIDDEN.match(name):
            branches.setdefault(found[1], {})[f"layers.{int(found[2]) + 1}.{found[3]}"] = value
        elif found := _HEAD.match(name):
            head[found[1]] = value
        else:
            raise UserError(f"checkpoint={path}: unknown tensor {name!r}; only Colored MNIST weights are known so far")
    if set(head) != {"weight", "bias"} or "debias_branch" not in branches:
        raise UserError(f"checkpoint={path}: a debias_branch and a classifier are needed; found {', '.join(branches)}")
    classes = len(head["weight"])
    depths = {name: len(layers) // 2 for name, layers in branches.items()}
    common = {"shape": list(shape), "classes": classes}
    if "bias_branch" in branches and depths["debias_branch"] < depths["bias_branch"]:
        spec = {"shallow": _network(depths["debias_branch"]), "deep": _network(depths["bias_branch"]), **common}
        tensors = {f"branches.shallow.{key}": value for key, value in branches["debias_branch"].items()}
        tensors |= {f"branches.deep.{key}": value for key, value in branches["bias_branch"].items()}
        return {"branches": spec}, tensors | {f"branches.head.{key}": value for key, value in head.items()}
    spec = {"backbone": _network(depths["debias_branch"]), **common}
    tensors = {f"model.backbone.{key}": value for key, value in branches["debias_branch"].items()}
    return {"model": spec}, tensors | {f"model.head.{key}": value for key, value in head.items()}


def _network(layers: int) -> str:
    return f"mlp{layers + 1}"
