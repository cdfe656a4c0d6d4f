from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from debias.errors import UserError
from debias.models.checkpoint import load_read_outs

SHAPE = (3, 4, 5)
CLASSES = 6
State = dict[str, Tensor]
Change = Callable[[State], object]

# First and hidden layers as the authors write them: of a numbered branch, of the shallow and of the target branch.
NUMBERED, SHALLOW, TARGET = ("0", "2"), ("c1", "s1"), ("c2", "s2")


@pytest.fixture
def draw() -> Iterator[Callable[..., Tensor]]:
    generator = torch.Generator().manual_seed(3)
    yield lambda *size: torch.randn(*size, generator=generator) / 5


def branch(draw: Callable[..., Tensor], name: str, spelling: tuple[str, str], hidden: int) -> State:
    first, rest = spelling
    state = {f"{name}.{first}.weight": draw(100, 60), f"{name}.{first}.bias": draw(100)}
    for i in range(hidden):
        state[f"{name}.{rest}.hidden_layers.{i}.weight"] = draw(100, 100)
        state[f"{name}.{rest}.hidden_layers.{i}.bias"] = draw(100)
    return state


def released(draw: Callable[..., Tensor], spelling: tuple[str, str], hidden: int) -> State:
    state = branch(draw, "debias_branch", spelling, hidden) | branch(draw, "bias_branch", NUMBERED, 3)
    return state | {"classifier.weight": draw(CLASSES, 100), "classifier.bias": draw(CLASSES)}


def features(state: State, name: str, images: Tensor) -> Tensor:
    """What the authors' forward pass computes of one branch: every linear layer is followed by a ReLU."""
    weights = [key for key in state if key.startswith(f"{name}.") and key.endswith(".weight")]
    hidden = images.flatten(1)
    for key in weights:
        hidden = torch.relu(linear(hidden, state[key].float(), state[key.replace("weight", "bias")].float()))
    return hidden


def logits(state: State, images: Tensor, *names: str) -> Tensor:
    """The classifier on the sum of branches."""
    total = sum((features(state, name, images) for name in names), torch.zeros(()))
    return linear(total, state["classifier.weight"].float(), state["classifier.bias"].float())


def images() -> Tensor:
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(4))


def load(state: object, folder: Path) -> dict[str, Tensor]:
    torch.save(state, folder / "weights.th")
    _, read_outs = load_read_outs(folder / "weights.th", SHAPE, CLASSES)
    return {name: value.detach() for name, value in read_outs(images()).items()}


@pytest.mark.parametrize("spelling", [NUMBERED, SHALLOW], ids=["numbered", "named"])
def test_stage_one(spelling: tuple[str, str], draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = released(draw, spelling, hidden=1)
    found = load(state, tmp_path)
    assert list(found) == ["poe", "shallow", "deep"]
    torch.testing.assert_close(found["poe"], logits(state, images(), "debias_branch", "bias_branch"))
    torch.testing.assert_close(found["shallow"], logits(state, images(), "debias_branch"))
    torch.testing.assert_close(found["deep"], logits(state, images(), "bias_branch"))


@pytest.mark.parametrize("spelling", [NUMBERED, TARGET], ids=["numbered", "named"])
def test_stage_two(spelling: tuple[str, str], draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = released(draw, spelling, hidden=3)
    found = load(state, tmp_path)
    assert list(found) == ["target", "deep"]
    torch.testing.assert_close(found["target"], logits(state, images(), "debias_branch"))
    torch.testing.assert_close(found["deep"], logits(state, images(), "bias_branch"))


def test_names_go_before_depth(draw: Callable[..., Tensor], tmp_path: Path) -> None:
    assert list(load(released(draw, SHALLOW, hidden=3), tmp_path)) == ["poe", "shallow", "deep"]
    assert list(load(released(draw, TARGET, hidden=1), tmp_path)) == ["target", "deep"]


def test_a_target_branch_alone(draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = {k: v for k, v in released(draw, TARGET, hidden=3).items() if not k.startswith("bias_branch")}
    found = load(state, tmp_path)
    assert list(found) == ["target"]
    torch.testing.assert_close(found["target"], logits(state, images(), "debias_branch"))


def test_order_in_the_file_does_not_matter(draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = released(draw, TARGET, hidden=3)
    expected = load(state, tmp_path)
    turned = load(dict(reversed(state.items())), tmp_path)
    assert all(torch.equal(turned[name], value) for name, value in expected.items())


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s, "steps": 5}, lambda s: {f"module.{k}": s[k] for k in s}])
def test_wrapped_state_dicts(wrap: Callable[[State], object], draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = released(draw, SHALLOW, hidden=1)
    expected = load(state, tmp_path)
    found = load(wrap(state), tmp_path)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype, draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = {name: value.to(dtype) for name, value in released(draw, SHALLOW, hidden=1).items()}
    found = load(state, tmp_path)
    assert found["poe"].dtype == torch.float32
    torch.testing.assert_close(found["shallow"], logits(state, images(), "debias_branch"))


def test_the_old_file_format(draw: Callable[..., Tensor], tmp_path: Path) -> None:
    state = released(draw, TARGET, hidden=3)
    torch.save(state, tmp_path / "old.th", _use_new_zipfile_serialization=False)
    _, read_outs = load_read_outs(tmp_path / "old.th", SHAPE, CLASSES)
    assert torch.equal(read_outs(images())["target"], load(state, tmp_path)["target"])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: s.update({"bias_branch.conv1.weight": torch.zeros(1)}), "unknown tensor 'bias_branch.conv1.weight'"),
        (lambda s: s.update({"debias_branch.c2.weight": torch.zeros(100, 60)}), "written in another way too"),
        (lambda s: s.update({"classifier.weight": torch.zeros(4)}), "classifier.weight is not a matrix"),
        (lambda s: s.update({"classifier.weight": torch.zeros(9, 100)}), "made for 9 classes"),
        (lambda s: s.update({"debias_branch.c1.weight": torch.zeros(100, 12)}), "12 values.* has 60"),
        (lambda s: s.update({"debias_branch.c1.weight": torch.zeros(50, 60)}), "do not fit"),
        (
            lambda s: s.update(
                {f"debias_branch.s1.hidden_layers.{i}.weight": torch.zeros(100, 100) for i in (1, 2, 3)}
            ),
            "5 linear layers",
        ),
        (lambda s: s.update({"debias_branch.s1.hidden_layers.1.bias": torch.zeros(100)}), "do not fit"),
        (lambda s: s.pop("classifier.bias"), "classifier.bias missing"),
        (lambda s: s.pop("debias_branch.c1.weight"), "debias_branch has no first layer"),
        (lambda s: s.pop("debias_branch.c1.bias"), "do not fit"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("bias_branch")], "bias_branch missing"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("debias_branch")], "debias_branch missing"),
        (lambda s: s.clear(), "missing"),
        (lambda s: s.update(epoch=3), "something else than a state dict"),
        (lambda s: s.update({5: torch.zeros(1)}), "something else than a state dict"),
    ],
)
def test_other_state_dicts_are_refused(
    change: Change, complaint: str, draw: Callable[..., Tensor], tmp_path: Path
) -> None:
    state = released(draw, SHALLOW, hidden=1)
    change(state)
    with pytest.raises(UserError, match=complaint) as caught:
        load(state, tmp_path)
    assert "weights.th" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], 4.5, None], ids=["tensor", "list", "number", "nothing"])
def test_other_contents_are_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="something else than a state dict"):
        load(content, tmp_path)
