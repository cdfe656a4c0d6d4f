import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.checkpoint import load_read_outs, save_weights
from debias.models.registry import build_classifier, seeded
from debias.training.artifacts import State, TrainedBranches, TrainedModel

SHAPE = (3, 4, 5)
CLASSES = 6
BRANCHES = {"shallow": "mlp3", "deep": "mlp5", "shape": list(SHAPE), "classes": CLASSES}
MODEL = {"backbone": "mlp5", "shape": list(SHAPE), "classes": CLASSES}


def images() -> Tensor:
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(4))


def states(spec: dict[str, Any], build: Callable[[Any], nn.Module]) -> dict[str, State]:
    return {name: seeded(lambda: build(spec), seed).state_dict() for seed, name in enumerate(("last", "oracle"))}


def model_of(spec: dict[str, Any], read_out: str) -> TrainedModel:
    return TrainedModel(spec, states(spec, build_classifier), read_out, "pretrain")


@pytest.fixture
def artifacts() -> dict[str, Any]:
    return {
        "branches": TrainedBranches(BRANCHES, states(BRANCHES, build_branches)),
        "model": model_of(MODEL, "target"),
    }


def save(artifacts: dict[str, Any], folder: Path, **options: str) -> Path:
    path = folder / "weights.safetensors"
    branches, model = artifacts.get("branches"), artifacts.get("model")
    save_weights(path, branches, model, about={"dataset": "colored_digits"}, **options)
    return path


@pytest.mark.parametrize("selection", ["last", "oracle"])
def test_round_trip_is_bit_exact(selection: str, artifacts: dict[str, Any], tmp_path: Path) -> None:
    network, _ = load_read_outs(save(artifacts, tmp_path, selection=selection), SHAPE, CLASSES)
    found = network.state_dict()
    expected = {
        f"networks.{part}.{name}": value
        for part in artifacts
        for name, value in artifacts[part].states[selection].items()
    }
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_read_outs_are_those_of_the_networks(artifacts: dict[str, Any], tmp_path: Path) -> None:
    network, read_outs = load_read_outs(save(artifacts, tmp_path), SHAPE, CLASSES)
    assert not network.training
    branches, model = build_branches(BRANCHES), build_classifier(MODEL)
    branches.load_state_dict(artifacts["branches"].states["last"])
    model.load_state_dict(artifacts["model"].states["last"])
    expected = {**branches.read_outs(images()), "target": model(images())}
    found = read_outs(images())
    assert list(found) == ["poe", "shallow", "deep", "target"]
    assert all(torch.equal(found[name], logits) for name, logits in expected.items())


@pytest.mark.parametrize(("part", "names"), [("branches", ["poe", "shallow", "deep"]), ("model", ["target"])])
def test_one_stage_alone(part: str, names: list[str], artifacts: dict[str, Any], tmp_path: Path) -> None:
    _, read_outs = load_read_outs(save({part: artifacts[part]}, tmp_path), SHAPE, CLASSES)
    assert list(read_outs(images())) == names


def test_joined_branches_are_saved_as_two(tmp_path: Path) -> None:
    joined = build_branches(BRANCHES).join()
    path = save({"branches": TrainedBranches(BRANCHES, {"last": joined.state_dict()})}, tmp_path)
    _, read_outs = load_read_outs(path, SHAPE, CLASSES)
    torch.testing.assert_close(read_outs(images())["poe"], joined(images()))


def test_half_precision_is_read_as_single(artifacts: dict[str, Any], tmp_path: Path) -> None:
    state = artifacts["model"].states["last"]
    half = {name: value.half() for name, value in state.items()}
    path = save({"model": TrainedModel(MODEL, {"last": half}, "model", "pretrain")}, tmp_path)
    network, read_outs = load_read_outs(path, SHAPE, CLASSES)
    assert read_outs(images())["model"].dtype == torch.float32
    assert torch.equal(network.get_parameter("networks.model.head.weight"), half["head.weight"].float())


def test_a_saved_file_says_how_it_was_made(artifacts: dict[str, Any], tmp_path: Path) -> None:
    with safe_open(save(artifacts, tmp_path, selection="oracle"), framework="pt") as file:
        about = file.metadata()
    assert (about["dataset"], about["selection"]) == ("colored_digits", "oracle")


@pytest.mark.parametrize(
    ("shape", "classes", "complaint"),
    [((3, 4, 5), 7, "made for 6 classes.*has 7 classes"), ((3, 5, 4), 6, r"images \(3, 4, 5\).*images \(3, 5, 4\)")],
)
def test_other_data_are_refused(
    shape: tuple[int, int, int], classes: int, complaint: str, artifacts: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=complaint):
        load_read_outs(save(artifacts, tmp_path), shape, classes)


@pytest.mark.parametrize("name", ["none.safetensors", "none.th", "."])
def test_a_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_read_outs(tmp_path / name, SHAPE, CLASSES)


@pytest.mark.parametrize("spec", [MODEL | {"backbone": "mlp7"}, MODEL | {"backbone": "mlp3"}])
def test_weights_of_another_network(spec: dict[str, Any], artifacts: dict[str, Any], tmp_path: Path) -> None:
    artifacts["model"] = replace(artifacts["model"], spec=spec)
    with pytest.raises(UserError, match=r"weights\.safetensors.*(no network is called 'mlp7'|do not fit)") as caught:
        load_read_outs(save(artifacts, tmp_path), SHAPE, CLASSES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.extra", "other.weight"])
def test_an_unknown_tensor(name: str, artifacts: dict[str, Any], tmp_path: Path) -> None:
    path = save(artifacts, tmp_path)
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
    save_file(load_file(path) | {name: torch.zeros(2)}, path, metadata=about)
    with pytest.raises(UserError, match=name.removeprefix("model.")):
        load_read_outs(path, SHAPE, CLASSES)


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not written by this program"):
        load_read_outs(tmp_path / "a.safetensors", SHAPE, CLASSES)


def safetensors_bytes(artifacts: dict[str, Any], folder: Path) -> Path:
    return save(artifacts, folder)


def zip_bytes(artifacts: dict[str, Any], folder: Path) -> Path:
    torch.save(artifacts["model"].states["last"], folder / "new.th")
    return folder / "new.th"


def old_bytes(artifacts: dict[str, Any], folder: Path) -> Path:
    torch.save(artifacts["model"].states["last"], folder / "old.th", _use_new_zipfile_serialization=False)
    return folder / "old.th"


@pytest.mark.parametrize("write", [safetensors_bytes, zip_bytes, old_bytes])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_short(
    share: float, write: Callable[[dict[str, Any], Path], Path], artifacts: dict[str, Any], tmp_path: Path
) -> None:
    path = write(artifacts, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="cannot be read"):
        load_read_outs(path, SHAPE, CLASSES)


@pytest.mark.parametrize("content", [b"not weights at all", b"PK\x03\x04 and no more", bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["a.th", "a.safetensors"])
def test_a_file_of_another_kind(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_read_outs(tmp_path / name, SHAPE, CLASSES)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def as_zip(content: object, path: Path) -> None:
    torch.save(content, path)


def as_old(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [as_zip, as_old, as_pickle])
def test_nothing_in_a_file_is_executed(write: Callable[[object, Path], None], tmp_path: Path) -> None:
    made = tmp_path / "made"
    content = {"classifier.weight": torch.zeros(2, 2), "more": Trap(made)}
    write(content, tmp_path / "trap.th")
    with pytest.raises(UserError, match="cannot be read as weights alone"):
        load_read_outs(tmp_path / "trap.th", SHAPE, CLASSES)
    assert not made.exists()
    if write is as_pickle:
        pickle.loads((tmp_path / "trap.th").read_bytes())
        assert made.exists()  # the trap works: a plain unpickler springs it


def test_the_shallow_branch_is_not_saved_twice(artifacts: dict[str, Any], tmp_path: Path) -> None:
    shallow = model_of({**MODEL, "backbone": "mlp3"}, "shallow")
    _, read_outs = load_read_outs(save({**artifacts, "model": shallow}, tmp_path), SHAPE, CLASSES)
    assert list(read_outs(images())) == ["poe", "shallow", "deep"]


def test_a_second_modality_must_be_the_one_it_was_made_for(tmp_path: Path) -> None:
    spec = MODEL | {"vector": 2}
    path = save({"model": model_of(spec, "model")}, tmp_path)
    with pytest.raises(UserError, match="2 values of a second modality, but the data set has 0"):
        load_read_outs(path, SHAPE, CLASSES)
    _, read_outs = load_read_outs(path, SHAPE, CLASSES, vector=2)
    assert read_outs((images(), torch.rand(7, 2)))["model"].shape == (7, CLASSES)
