"""What stages hand to each other and leave behind: small frozen dataclasses, stored as plain data.

A stage that gives a new kind of artifact declares it in its own file, as a frozen dataclass below `Artifact`.
"""

import dataclasses
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

State = Mapping[str, Tensor]  # of a network, by the names of its state dict
A = TypeVar("A", bound="Artifact")

_KIND = "artifact"  # the class's name in plain data; no field is called that


@dataclass(frozen=True, eq=False)
class Artifact:
    """Base of all. Fields are plain data and tensors on the CPU.

    Raises
    ------
    TypeError
        A field has a value of another type than it declares.
    """

    kinds: ClassVar[dict[str, type["Artifact"]]] = {}

    def __init_subclass__(cls) -> None:
        Artifact.kinds[cls.__name__] = cls

    def __post_init__(self) -> None:
        for name, declared in get_type_hints(type(self)).items():
            if get_origin(declared) is ClassVar:
                continue
            value, expected = getattr(self, name), get_origin(declared) or declared
            if not isinstance(value, expected):
                raise TypeError(f"{type(self).__name__}.{name} is {type(value).__name__}, not {expected.__name__}")


Inputs = Mapping[str, Artifact]


@dataclass(frozen=True, eq=False)
class TrainedModel(Artifact):
    """A classifier: its spec (`models.registry.build_classifier`) and its weights by selection.

    read_out : what its logits are called in figures
    initial : the use from which its first weights were drawn (`stages.common.classifier.initial_classifier`)
    """

    spec: Mapping[str, Any]
    states: Mapping[str, State]
    read_out: str
    initial: str


@dataclass(frozen=True, eq=False)
class TrainedBranches(Artifact):
    """A shallow and a deep branch: their spec (`models.branches.build_branches`) and their weights by selection."""

    spec: Mapping[str, Any]
    states: Mapping[str, State]


@dataclass(frozen=True, eq=False)
class ConflictScore(Artifact):
    """How likely images conflict: float32 [N], 0 (aligned) to 1 (conflicting), by id, int64 [N].

    threshold : suspects are the images above it
    miner : the stage that says so
    log_odds : of another class than the target against it, float32 [N]: they tell images apart whose scores are all 1
        to the last bit; empty where a miner has no logits
    """

    ids: Tensor
    score: Tensor
    threshold: float
    miner: str
    log_odds: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        super().__post_init__()
        _by_id(self.ids, self.score, torch.float32)
        if len(self.log_odds):
            _by_id(self.ids, self.log_odds, torch.float32)

    @property
    def order(self) -> Tensor:
        """What images are ranked by, the most suspicious first: float32 [N]."""
        return self.log_odds if len(self.log_odds) else self.score


@dataclass(frozen=True, eq=False)
class BiasLabels(Artifact):
    """A bias label, int64 [N] from 0 to n_biases - 1, by id, int64 [N]; `kind` is true or pseudo."""

    ids: Tensor
    label: Tensor
    n_biases: int
    kind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _by_id(self.ids, self.label, torch.int64)


@dataclass(frozen=True, eq=False)
class Mask(Artifact):
    """Which weights are kept: bool tensors by the name of the layer."""

    kept: State


@dataclass(frozen=True, eq=False)
class Report(Artifact):
    """What a stage tells of itself. All but `summary` is empty for one that trains nothing.

    history : a row of plain floats per epoch
    summary : figures by <read-out>/<figure>/<selection>, in percent
    matrices : by selection and read-out, int64 [2, T, B]: hits and images
    predictions : by selection and read-out, int64 [T, B, T]: how often each class was predicted
    epochs : the epoch of each selection, counted from 1
    speed : what made it faster, and whether it was on
    replicas : how many seeds were trained in one go
    nondeterministic : operations that may give other numbers the next time
    starts : how often training was begun until it went well
    sparsity : pruned share of every layer, in percent
    augmentation : by what training images were changed; empty where they were not
    operator : how that was decided, as plain data
    """

    history: Sequence[Mapping[str, float]] = ()
    summary: Mapping[str, float] = field(default_factory=dict)
    matrices: Mapping[str, State] = field(default_factory=dict)
    predictions: Mapping[str, State] = field(default_factory=dict)
    epochs: Mapping[str, int] = field(default_factory=dict)
    speed: Mapping[str, bool] = field(default_factory=dict)
    replicas: int = 1
    nondeterministic: Sequence[str] = ()
    starts: int = 1
    sparsity: Mapping[str, float] = field(default_factory=dict)
    augmentation: str = ""
    operator: Mapping[str, Any] = field(default_factory=dict)

    def with_figures(self, *figures: Mapping[str, float]) -> Self:
        """The same with further figures in `summary`."""
        summary = dict(self.summary)
        for more in figures:
            summary |= more
        return dataclasses.replace(self, summary=summary)


@dataclass(frozen=True, eq=False)
class Selected(Artifact):
    """What one selection has kept: its epoch, counted from 1, and its state dict on the CPU.

    By read-out: its figures, in percent; hits and images of the target x bias matrix, int64 [2, T, B]; how often each
    class was predicted, int64 [T, B, T].
    """

    epoch: int
    state: State
    figures: Mapping[str, Mapping[str, float]]
    matrices: State
    predictions: State


@dataclass(frozen=True, eq=False)
class Checkpoint(Artifact):
    """All that an unfinished training needs to go on: `optimisers` are their state dicts, the rest as of its loop.

    group : folders of all the stages that wrote one at this epoch, being trained together; empty for one by itself
    replicas, nondeterministic, captured : as of the report, so far
    """

    model: State
    optimisers: Sequence[Mapping[str, Any]]
    tensors: State
    history: Sequence[Mapping[str, float]]
    selected: Mapping[str, Selected]
    mean: State
    group: Sequence[str] = ()
    replicas: int = 1
    nondeterministic: Sequence[str] = ()
    captured: bool = False


def take(inputs: Inputs, name: str, kind: type[A]) -> A:
    """The artifact of a name, which is of a kind.

    Raises
    ------
    KeyError
        There is none of that name.
    TypeError
        It is of another kind: two stages mean different things by one name.
    """
    found = inputs[name]
    if not isinstance(found, kind):
        raise TypeError(f"the artifact {name} is a {type(found).__name__}, not a {kind.__name__}")
    return found


def to_plain(artifact: Artifact) -> dict[str, Any]:
    """Its kind and its fields, as `from_plain` reads them."""
    if not isinstance(artifact, Artifact):
        raise TypeError(
            f"{type(artifact).__name__} is not an artifact: a stage gives dataclasses below training.artifacts"
        )
    own = {one.name: _plain(getattr(artifact, one.name)) for one in dataclasses.fields(artifact)}
    return {_KIND: type(artifact).__name__, **own}


def _plain(value: Any) -> Any:
    if isinstance(value, Artifact):
        return to_plain(value)
    return {name: _plain(own) for name, own in value.items()} if isinstance(value, Mapping) else value


def from_plain(plain: Mapping[str, Any]) -> Artifact:
    """The artifact that was stored.

    Raises
    ------
    ValueError, TypeError
        It is of an unknown kind, or has other fields than that kind has today, or something else in them.
    """
    if not isinstance(plain, Mapping) or plain.get(_KIND) not in Artifact.kinds:
        raise ValueError("plain data of no known kind of artifact")
    given = {name: _made(value) for name, value in plain.items() if name != _KIND}
    kind = Artifact.kinds[plain[_KIND]]
    if set(given) != {one.name for one in dataclasses.fields(kind)}:
        raise ValueError(f"a {kind.__name__} with other fields")
    for name, hint in get_type_hints(kind).items():
        if name in given and not _fits(given[name], hint):
            raise ValueError(f"{name} of a {kind.__name__} is something else than {hint}")
    return kind(**given)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a field is declared to be, down to what is inside of it."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(name, inside[0]) and _fits(own, inside[1]) for name, own in value.items()
        )
    if origin is not None and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(_fits(own, inside[0]) for own in value)
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _made(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return from_plain(value) if _KIND in value else {name: _made(own) for name, own in value.items()}


def _by_id(ids: Tensor, values: Tensor, dtype: torch.dtype) -> None:
    if ids.dtype != torch.int64 or ids.ndim != 1 or values.shape != ids.shape or values.dtype != dtype:
        raise TypeError(f"values {values.dtype} {list(values.shape)} for ids {ids.dtype} {list(ids.shape)}")
