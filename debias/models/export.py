"""The final model of a checkpoint alone, for use on images elsewhere: in this program, as safetensors, or exported."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.branches import Branches
from debias.models.checkpoint import load_read_outs, read_description, write_tensors
from debias.models.description import NETWORKS, check_spec, read_json
from debias.models.embedders import Embedding, fresh
from debias.models.onnxfile import PACKAGES, Unsupported, missing, run_onnx, without_traces, write_onnx
from debias.models.registry import Classifier, build_classifier
from debias.rawfiles import check_regular, read_regular

FORMAT = "debias-model-1"
# In front of the names of the pretrained network's tensors, in the file of a model that takes features.
EMBEDDING = "embedding."
WEIGHTS, DESCRIPTION, PROGRAM, ONNX = "model.safetensors", "model.json", "model.pt2", "model.onnx"
# How far an exported program may be from the network it was made of, in logits.
TOLERANCE = 1e-3


class Deployed(nn.Module):
    """RGB images in [0, 1], float32 [B, C, S, S], to logits [B, classes]: normalisation and network in one.

    description : what `model.json` holds; embedding : turns images into the features that the network takes; None for
    one that takes images
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Classifier, description: Mapping[str, Any], embedding: Embedding | None = None) -> None:
        super().__init__()
        self.network, self.embedding = network, embedding
        self.description = dict(description)
        normalise = description["normalise"] or {"mean": [0.0], "std": [1.0]}
        self.register_buffer("mean", torch.tensor(normalise["mean"]).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(normalise["std"]).view(-1, 1, 1))

    @property
    def classes(self) -> list[str]:
        return self.description["classes"]

    def forward(self, images: Tensor) -> Tensor:
        inputs = images if self.embedding is None else self.embedding(images)
        return self.network((inputs - self.mean) / self.std)


def final_model(path: Path, embed: Callable[[Mapping[str, Any], int], Embedding] | None = None) -> Deployed:
    """The final model in a run's `weights.safetensors`, in evaluation mode: its last stage's, or the shallow branch.

    embed : finds the pretrained network of a model that takes features, by what the file says of them and the side of
        the images

    Raises
    ------
    UserError
        A file that is missing, damaged or not one of ours, or whose model takes more than an image.
    """
    about = read_description(path)
    specs = about.specs
    if about.preparation is None or about.classes is None or not about.says_normalise:
        raise UserError(f"checkpoint={path}: it does not say how images are prepared; train it again")
    spec = next(iter(specs.values()))
    if about.vector:
        raise UserError(f"checkpoint={path}: its model takes a second modality beside the image")
    channels, height = (3, int(about.preparation["size"])) if about.features else about.shape[:2]
    bundle, _ = load_read_outs(path, about.shape, len(about.classes))
    if "model" in specs:
        network, read_out = bundle.networks["model"], str(specs["model"].get("read_out", "model"))
        kept = {name: specs["model"][name] for name in ("backbone", "shape", "classes")}
    else:
        network, read_out = _shallow(bundle.networks["branches"], specs["branches"]), "shallow"
        kept = {"backbone": specs["branches"]["shallow"], "shape": spec["shape"], "classes": spec["classes"]}
    assert isinstance(network, Classifier)
    description: dict[str, Any] = {
        "format": FORMAT,
        "classes": list(about.classes),
        "input": {
            "channels": channels, "size": height, "range": [0, 1], "order": "RGB", "layout": "NCHW", "type": "float32",
        },
        "output": {"type": "logits", "layout": "[batch, classes]", "probabilities": "softmax over the classes"},
        "preparation": dict(about.preparation),
        # (image - mean) / std by channel, behind scaling to [0, 1]. Programs do so themselves, bare tensors do not.
        "normalise": about.normalise,
        "network": kept,
        "tensors": _tensors(kept["backbone"], "model" in specs),
        "read_out": read_out,
        "trained": {
            name: about.texts[name] for name in ("dataset", "method", "skew", "seed") if name in about.texts
        },
    }  # fmt: skip
    if about.features is None:
        return Deployed(network, description).eval()
    assert embed is not None
    description["features"] = {name: about.features[name] for name in ("network", "digest")}
    embedding = embed(about.features, height)
    # Of the images that the pretrained network takes; `normalise` is of the features that it gives.
    description["features"]["normalise"] = {
        name: getattr(embedding, name).flatten().tolist() for name in ("mean", "std")
    }  # fmt: skip
    description["tensors"][EMBEDDING] = {
        "module": f"pretrained network {about.features['network']}, whose features the network takes", "from": None,
    }  # fmt: skip
    return Deployed(network, description, embedding).eval()


def _tensors(backbone: str, single: bool) -> dict[str, dict[str, str | None]]:
    """By the beginning of a tensor's name in `model.safetensors`: its module, and how the name began in the checkpoint.

    single : whether the model is a network of its own there, and not the shallow one of two branches
    """
    before = ("model.backbone.", "model.head.") if single else ("branches.shallow.", "branches.head.")
    modules = (f"network {backbone}, from images or features to its features", "linear layer from these to logits")
    return {
        name: {"module": module, "from": origin}
        for name, module, origin in zip(("backbone.", "head."), modules, before, strict=True)
    }


def _shallow(branches: nn.Module, spec: Mapping[str, Any]) -> Classifier:
    assert isinstance(branches, Branches)
    network = build_classifier({"backbone": spec["shallow"], "shape": spec["shape"], "classes": spec["classes"]})
    network.backbone.load_state_dict(branches.shallow.state_dict())
    network.head.load_state_dict(branches.head.state_dict())
    return network


@dataclass(frozen=True)
class Written:
    """What `write_model` wrote.

    paths : the files; notes : lines about what was left out and why; checked : how many images each was checked on
    """

    paths: list[Path]
    notes: list[str]
    checked: int


def write_model(
    model: Deployed, folder: Path, images: Tensor | None = None, packages: Sequence[str] = PACKAGES
) -> Written:
    """Write `model.safetensors`, `model.json`, `model.pt2` and `model.onnx`, read all of them back and compare.

    The first two are the network, without normalisation, and what it needs to be used; the pretrained network is with
    one that takes its features. The others are a torch.export program and an ONNX model, with any number of images a
    batch, normalisation included. ONNX is left out, with a note, where its packages are not installed or the network
    has an operation that it does not know.

    Parameters
    ----------
    images
        Float32 [N, C, S, S] to compare with, beside random ones; None: only random ones.
    packages
        What ONNX needs.

    Raises
    ------
    UserError
        When what was written gives other logits than the model, or cannot be written.
    """
    notes = []
    parts = {"": model.network} if model.embedding is None else {"": model.network, EMBEDDING: model.embedding.network}
    state = {
        f"{before}{name}": value.contiguous().clone()
        for before, part in parts.items()
        for name, value in part.state_dict().items()
    }
    write_tensors(state, folder / WEIGHTS, {"format": FORMAT})
    program = _program(model)
    try:
        torch.export.save(program, folder / PROGRAM)
    except (RuntimeError, OSError) as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):
            raise
        raise UserError(f"{folder / PROGRAM} cannot be written; is the disk full?") from error
    names = [WEIGHTS, DESCRIPTION, PROGRAM]
    if absent := missing(packages):
        notes.append(f"{ONNX} is left out: it needs {' and '.join(absent)}: pip install {' '.join(absent)}")
    else:
        try:
            write_onnx(program, folder / ONNX)
            names.append(ONNX)
        except Unsupported as error:
            notes.append(f"{ONNX} is left out: torch cannot write this network as ONNX ({error})")
        except OSError as error:
            raise UserError(f"{folder / ONNX} cannot be written ({error.strerror}); is the disk full?") from error
    model.description["files"] = {name: _FILES[name] for name in names if name != DESCRIPTION}
    (folder / DESCRIPTION).write_text(json.dumps(model.description, indent=1), encoding="utf-8")
    checked = check_model(model, folder, images)
    return Written([folder / name for name in names], notes, checked)


# What `model.json` says of the files beside it.
_FILES = {
    WEIGHTS: {"holds": "tensors of the network, as `tensors` says", "normalises": False},
    PROGRAM: {"holds": "a program of torch.export, from images to logits", "normalises": True},
    ONNX: {"holds": "an ONNX model, from `images` to `logits`", "normalises": True},
}


def _program(model: Deployed) -> torch.export.ExportedProgram:
    """The model as a program that takes any number of images."""
    for module in model.modules():
        # ONNX has no operations in place: each is first taken apart, which takes longer than all the rest.
        if isinstance(module, nn.ReLU | nn.Hardtanh):
            module.inplace = False
    with torch.no_grad(), without_traces():
        program = torch.export.export(
            model, (_random(model, 2),), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                # Where its lines stand on this machine is nobody else's business.
                node.meta.pop("stack_trace", None)
    return program


def _random(model: Deployed, count: int) -> Tensor:
    """Random images that a model takes; other ones for another count."""
    about = model.description["input"]
    shape = (count, about["channels"], about["size"], about["size"])
    return torch.rand(shape, generator=torch.Generator().manual_seed(count))


@torch.inference_mode()
def check_model(model: Deployed, folder: Path, images: Tensor | None = None) -> int:
    """Compare what `write_model` wrote with the model, one image alone and several, none of which it was exported with.

    Gives the number of images.

    Raises
    ------
    UserError
        Naming the file that gives other logits.
    """
    sets = [_random(model, 5), _random(model, 1)]
    if images is not None and len(images):
        sets += [images, images[:1]]
    with torch.inference_mode(False), torch.no_grad():
        program = torch.export.load(folder / PROGRAM).module()
        # Copies, as what is made in inference mode may not go into a program.
        by_program = [program(one.clone()) for one in sets]
    weights, with_onnx = load_model(folder), (folder / ONNX).exists()
    for one, logits in zip(sets, by_program, strict=True):
        expected = model(one)
        given = {WEIGHTS: weights(one), PROGRAM: logits} | ({ONNX: run_onnx(folder / ONNX, one)} if with_onnx else {})
        for name, found in given.items():
            off = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
            # What is not a number compares with nothing.
            if not off <= TOLERANCE:
                raise UserError(f"{folder / name}: read back, its logits differ by {off:.3g}; it must not be used")
    return sum(map(len, sets[::2]))


def load_model(folder: Path) -> Deployed:
    """The model that `write_model` wrote as safetensors and JSON.

    Raises
    ------
    UserError
        Files that are missing or not of this kind.
    """
    try:
        description = read_json(read_regular(folder / DESCRIPTION).decode("utf-8"))
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise UserError(f"{folder / DESCRIPTION}: not written by this program (no format {FORMAT})")
        network = build_classifier(check_spec(description["network"], NETWORKS["model"]))
        check_regular(folder / WEIGHTS)
        state, embedding = load_file(folder / WEIGHTS), None
        if "features" in description:
            body, channels, _ = fresh(str(description["features"]["network"]), int(description["input"]["size"]))
            own = {name: value for name, value in state.items() if name.startswith(EMBEDDING)}
            body.load_state_dict({name.removeprefix(EMBEDDING): value for name, value in own.items()})
            state, embedding = {name: state[name] for name in state.keys() - own.keys()}, Embedding(body, channels)
        network.load_state_dict(state)
        return Deployed(network, description, embedding).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: its {WEIGHTS} and {DESCRIPTION} cannot be read ({error})") from error
