"""Weights on disk: ours (safetensors with a description) and the authors' release (.th state dicts).

Nothing that is read is ever executed: safetensors hold tensors only, and .th files are read with `weights_only=True`.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.branches import Branches, build_branches
from debias.models.description import Description, read_texts
from debias.models.registry import Classifier, build_classifier
from debias.models.released import convert_released

ReadOuts = Callable[[Any], Mapping[str, Tensor]]
FORMAT = "debias-1"


class Bundle(nn.Module):
    """The networks of one checkpoint and their read-outs."""

    def __init__(self, networks: Mapping[str, nn.Module], read_outs: Mapping[str, str]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(networks))
        self._names = dict(read_outs)

    def read_outs(self, inputs: Any) -> dict[str, Tensor]:
        """Logits [B, classes] of every read-out of images [B, C, H, W], or of images and vectors."""
        logits: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            if isinstance(network, Classifier):
                logits[self._names[name]] = network(inputs)
            elif isinstance(network, Branches):
                logits |= network.read_outs(inputs)
        return logits

    def features(self, inputs: Any) -> dict[str, Tensor]:
        """Features [B, F] in front of the classifier, of every single network: both branches count as one each."""
        found: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            if isinstance(network, Classifier):
                found[self._names[name]] = network.features(inputs)
            elif isinstance(network, Branches):
                found |= dict(zip(("shallow", "deep"), network.experts(inputs), strict=True))
        return found


class Trained(Protocol):
    """A network as stages give it: its spec, and its weights by selection."""

    @property
    def spec(self) -> Mapping[str, Any]: ...

    @property
    def states(self) -> Mapping[str, Mapping[str, Tensor]]: ...


class Named(Trained, Protocol):
    """One whose logits have a name."""

    @property
    def read_out(self) -> str: ...


def save_weights(
    path: Path, branches: Trained | None, model: Named | None, about: Mapping[str, str], selection: str = "last"
) -> None:
    """Write the networks that a run has trained into one safetensors file.

    Parameters
    ----------
    path
        File to write.
    branches, model
        None for one that the run does not have.
    about
        Texts that say how the weights were made.
    selection
        Which of the states is kept.
    """
    tensors: dict[str, Tensor] = {}
    specs: dict[str, Any] = {}
    if branches is not None:
        specs["branches"] = dict(branches.spec)
        tensors |= _above("branches", branches.states[selection])
    # The shallow branch is saved with the branches already.
    if model is not None and model.read_out != "shallow":
        specs["model"] = {**model.spec, "read_out": model.read_out}
        tensors |= _above("model", model.states[selection])
    metadata = {"format": FORMAT, "specs": json.dumps(specs), "selection": selection, **about}
    write_tensors(tensors, path, metadata)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file.

    Raises
    ------
    UserError
        The disk is full, or cannot be written to.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written ({error}); is the disk full?") from error


def load_read_outs(path: Path, shape: tuple[int, int, int], classes: int, vector: int = 0) -> tuple[Bundle, ReadOuts]:
    """The networks of a checkpoint, in evaluation mode, and the function that gives their logits by read-out.

    Read-outs are `poe`, `shallow` and `deep` of branches and that of the model itself, as it was saved (`target` of a
    stage-2 file). In a stage-2 file of the authors `deep` is read through the classifier of the target, the only
    one in it.

    Parameters
    ----------
    path
        A file of `save_weights`, or a stage-1 or stage-2 `.th` state dict of the authors' release, of any float type.
    shape, classes, vector
        Image shape (C, H, W), number of classes and length of the second modality's vector (0: none) of the data the
        checkpoint is evaluated on.

    Raises
    ------
    UserError
        A file that is missing, damaged, of an unknown kind, or made for other images or classes.
    """
    if not path.is_file():
        raise UserError(f"checkpoint={path}: there is no such file")
    specs, state = _read_ours(path) if path.suffix == ".safetensors" else _read_released(path, shape)
    names = {name: str(spec.get("read_out", name)) for name, spec in specs.items()}
    own = {name: _below(name, state) for name in specs}
    if stray := set(state) - {f"{name}.{key}" for name, tensors in own.items() for key in tensors}:
        raise UserError(f"checkpoint={path}: unknown tensor {min(stray)!r}")
    if broken := next((name for name, value in state.items() if not _is_finite(value)), None):
        raise UserError(f"checkpoint={path}: {broken} holds values that are not finite; its training had diverged")
    networks: dict[str, nn.Module] = {}
    for name, spec in specs.items():
        if tuple(spec["shape"]) != shape or spec["classes"] != classes:
            raise UserError(
                f"checkpoint={path}: made for {spec['classes']} classes of images {tuple(spec['shape'])}, "
                f"but the data set has {classes} classes of images {shape}"
            )
        if int(spec.get("vector", 0)) != vector:
            raise UserError(
                f"checkpoint={path}: made for images with {spec.get('vector', 0)} values of a second modality, "
                f"but the data set has {vector}"
            )
        try:
            build = build_branches if name == "branches" else build_classifier
            # A description may ask for any size: the tensors that are there are compared before memory is taken.
            with torch.device("meta"):
                _check_sizes(build(spec), own[name])
            network: nn.Module = build(spec)
            network.load_state_dict(own[name])
        except UserError as error:
            raise UserError(f"checkpoint={path}: {error}") from error
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"checkpoint={path}: the weights do not fit the network it describes: {reason}") from error
        networks[name] = network
    bundle = Bundle(networks, names).eval()
    return bundle, bundle.read_outs


def read_description(path: Path) -> Description:
    """What `save_weights` stored beside the weights, looked through.

    Raises
    ------
    UserError
        A file that is missing, damaged or not one of ours.
    """
    if not path.is_file():
        raise UserError(f"checkpoint={path}: there is no such file")
    if path.suffix != ".safetensors":
        raise UserError(
            f"checkpoint={path}: not a weights.safetensors of a run; only these say how images are prepared"
        )
    return read_texts(_open_ours(path)[0], f"checkpoint={path}")


def _is_finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _check_sizes(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError for tensors that are not those of the network, or of other shapes."""
    expected = network.state_dict()
    if missing := [name for name in expected if name not in state]:
        raise RuntimeError(f"{missing[0]} is missing")
    for name, value in state.items():
        if name not in expected or expected[name].shape != value.shape:
            raise RuntimeError(
                f"{name} is {list(value.shape)}, not {list(expected[name].shape) if name in expected else 'there'}"
            )


def _above(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value.contiguous().clone() for key, value in state.items()}


def _below(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def _open_ours(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"checkpoint={path}: cannot be read ({error}); is it complete?") from error
    if metadata.get("format") != FORMAT or "specs" not in metadata:
        raise UserError(f"checkpoint={path}: not written by this program (no format {FORMAT} in its description)")
    return metadata, tensors


def _read_ours(path: Path) -> tuple[Mapping[str, Mapping[str, Any]], dict[str, Tensor]]:
    metadata, tensors = _open_ours(path)
    return read_texts(metadata, f"checkpoint={path}").specs, tensors


def _read_released(path: Path, shape: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"checkpoint={path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # what damaged pickles raise has no common type
        raise UserError(
            f"checkpoint={path}: cannot be read as weights alone: it is damaged or cut short, "
            "or holds objects that only running code from the file could build"
        ) from error
    return convert_released(loaded, shape, path)
