"""Equal trainings of several seeds as one: their weights stacked, their losses and gradients from one set of products.

A step of each training, gradients included, is written down as plain operations (`make_fx`); where all write down the
same ones they are done for all together (`vmap`), with the tensors in which they differ stacked. What a loss reads
beside the batch (a teacher's words, weights of groups) is found that way too: losses need not know of any of this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from debias.data.batches import Batch
from debias.data.gathered import side_by_side
from debias.training.job import Job, Logs, Loss
from debias.training.optimisers import lay_out_state

# Between the gradients of a stacked step and those of each training by itself, as a share of the largest: float32
# products in another order differ by a hundredth of it. A wrong rule for stacking is off by the gradient itself, so
# that products of half precision (bfloat16, TensorFloat-32) can be told from it as well, by a wider bound.
TOLERANCE = 1e-4
HALF_PRECISION_TOLERANCE = 5e-2
_VIEWS = (
    torch.ops.aten.alias.default, torch.ops.aten.expand.default,
    torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default,
)  # fmt: skip


class Unstackable(Exception):
    """Why trainings cannot be done simultaneously."""


class Stacked:
    """Several jobs as one.

    Parameters
    ----------
    jobs
        At least two, alike in all but weights, data and what their losses read. Their weights become views of stacked
        ones, which is where training changes them.
    first
        A batch of each, as their trainings make them. The step is tried on it and compared with the jobs' own.

    Raises
    ------
    Unstackable
        They are not alike, have layers that are more than a function of weights and images (normalisation by the batch,
        dropout), draw at random, torch cannot compute them simultaneously, or what was compared differs.
    """

    def __init__(self, jobs: Sequence[Job], first: Sequence[Batch]) -> None:
        self._jobs = jobs
        _check(jobs)
        self._names = _trained(jobs[0])
        if any(_trained(job) != self._names for job in jobs):
            raise Unstackable("they train different weights")
        parameters = [dict(job.model.named_parameters()) for job in jobs]
        # Laid out as gradients are, whatever the layout of the jobs' own: an optimiser goes through both side by side.
        self.weights = [torch.stack([own[name].detach() for own in parameters]).contiguous() for name in self._names]
        for name, stack in zip(self._names, self.weights, strict=True):
            for own, view in zip(parameters, stack, strict=True):
                own[name].data = view
        self._optimiser = self._stacked_optimiser()
        self._steps: dict[int, tuple[GraphModule, list[Tensor]]] = {}
        self._values: list[str] = []
        self._checked_optimiser = False
        # Only full batches, and the last one of an epoch.
        for size in _sizes(jobs[0]):
            part = [Batch._make(None if value is None else value[:size] for value in batch) for batch in first]
            try:
                self._steps[size] = self._write_down(part)
            except (RuntimeError, NotImplementedError) as error:
                # A host sync in a loss, a compiled network, an operation without a rule, too little memory.
                why = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise Unstackable(f"torch cannot compute them simultaneously ({why[:200]})") from error

    def step(self, batches: Sequence[Tensor]) -> dict[str, Tensor]:
        """One optimiser step of every job on its own batch; losses and logs by name, each [jobs].

        batches : as `data.gathered` stacks them
        """
        values, gradients = self._evaluate(batches)
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        for group, own in zip(self._optimiser.param_groups, self._own_optimiser(0).param_groups, strict=True):
            group["lr"] = own["lr"]
        self._optimiser.step()
        for weight in self.weights:
            weight.grad = None
        return values

    def release(self) -> None:
        """Give every job's own optimiser its state, as if the job had been trained by itself."""
        for number in range(len(self._jobs)):
            own = self._own_optimiser(number)
            order = {id(weight): place for place, weight in enumerate(_weights_of(own))}
            state: dict[int, dict[str, Any]] = {}
            parameters = dict(self._jobs[number].model.named_parameters())
            for name, weight in zip(self._names, self.weights, strict=True):
                kept = self._optimiser.state.get(weight, {})
                state[order[id(parameters[name])]] = {
                    key: (value[number] if value.shape == weight.shape else value).clone()
                    if isinstance(value, Tensor)
                    else value
                    for key, value in kept.items()
                }
            own.load_state_dict({"state": state, "param_groups": own.state_dict()["param_groups"]})

    def _own_optimiser(self, number: int) -> Optimizer:
        return self._jobs[number].updates[0].optimiser

    def _stacked_optimiser(self) -> Optimizer:
        """One over the stacked weights; all optimisers here go by single numbers, so that stacking changes nothing."""
        first = self._own_optimiser(0)
        parameters = [dict(job.model.named_parameters()) for job in self._jobs]
        place = {id(parameters[0][name]): stack for name, stack in zip(self._names, self.weights, strict=True)}
        groups = [
            {**group, "params": [place[id(weight)] for weight in group["params"]]} for group in first.param_groups
        ]
        made: Optimizer = type(first)(groups)  # type: ignore[call-arg]
        for name, stack in zip(self._names, self.weights, strict=True):
            states = [self._own_optimiser(i).state.get(own[name], {}) for i, own in enumerate(parameters)]
            made.state[stack] = {key: _joined([state[key] for state in states]) for key in states[0]}
            if not made.state[stack]:
                del made.state[stack]
        lay_out_state(made)
        return made

    def _evaluate(self, batch: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        graph, constants = self._steps[batch[0].shape[1]]
        with torch.no_grad():
            found = graph(self.weights, list(batch), constants)
        count = len(self._names)
        return dict(zip(self._values, found[count:], strict=True)), list(found[:count])

    def _write_down(self, batches: Sequence[Batch]) -> tuple[GraphModule, list[Tensor]]:
        """The stacked step for batches of one size, and the tensors it reads beside weights and batches."""
        steps = [_Step(job.model, job.updates[0].loss, self._names, batches[0]) for job in self._jobs]
        alone = [([stack[i] for stack in self.weights], _present(batch)) for i, batch in enumerate(batches)]
        written = [step.written_down(*inputs) for step, inputs in zip(steps, alone, strict=True)]
        if len({graph.code for graph in written}) > 1 or any(step.values != steps[0].values for step in steps):
            raise Unstackable("their losses are not made of the same operations")
        self._values = steps[0].values
        _check_operations(written[0])
        names = list(dict.fromkeys(str(node.target) for node in written[0].graph.nodes if node.op == "get_attr"))
        read = [_one_or_stacked([getattr(graph, name) for graph in written]) for name in names]
        constants, places = [value for value, _ in read], [place for _, place in read]

        def one(weights: list[Tensor], batch: list[Tensor], *constants: Tensor) -> Any:
            return _Reading(written[0], dict(zip(names, constants, strict=True))).run(weights, batch)

        def many(weights: list[Tensor], batch: list[Tensor], constants: list[Tensor]) -> Any:
            return vmap(one, in_dims=(0, 0, *places))(weights, batch, *constants)

        inputs = (self.weights, side_by_side(batches), constants)
        graph = make_fx(many)(*inputs)
        _simplify(graph, inputs)
        found = graph(*inputs)
        tolerance = HALF_PRECISION_TOLERANCE if _in_half_precision(graph) else TOLERANCE
        _compare(found, [step.run(*own) for step, own in zip(steps, alone, strict=True)], tolerance)
        if not self._checked_optimiser:
            self._check_optimiser(found[: len(self._names)])
            self._checked_optimiser = True
        return graph, constants

    def _check_optimiser(self, gradients: Sequence[Tensor]) -> None:
        """Compare one step over the stacked weights with one over each job's own, on copies of weights and states."""
        weights = [weight.clone() for weight in self.weights]
        _step_with(self._optimiser, dict(zip(self.weights, weights, strict=True)), gradients)
        for number, job in enumerate(self._jobs):
            parameters = dict(job.model.named_parameters())
            own = [parameters[name] for name in self._names]
            copies = [weight.detach().clone() for weight in own]
            _step_with(
                self._own_optimiser(number), dict(zip(own, copies, strict=True)), [each[number] for each in gradients]
            )
            for many, single in zip(weights, copies, strict=True):
                if not bool((many[number] - single).abs().max() <= 1e-6 * single.abs().max() + 1e-7):
                    raise Unstackable("their optimiser does not do for all of them what it does for each")


class _Step(nn.Module):
    """Gradients, loss and logs of one job as a function of weights and a batch; `values` names the others."""

    def __init__(self, model: nn.Module, loss: Loss, names: Sequence[str], like: Batch) -> None:
        super().__init__()
        self.model = model
        self.values: list[str] = []
        self._loss, self._names = loss, [f"model.{name}" for name in names]
        self._columns = [name for name, value in zip(Batch._fields, like, strict=True) if value is not None]

    def forward(self, batch: Batch) -> Tensor | tuple[Tensor, Logs]:
        return self._loss(batch)

    def written_down(self, weights: list[Tensor], columns: list[Tensor]) -> GraphModule:
        graph: GraphModule = make_fx(lambda w, c: self.run(w, c))(weights, columns)
        return graph

    def run(self, weights: Sequence[Tensor], columns: Sequence[Tensor]) -> list[Tensor]:
        given = dict(zip(self._columns, columns, strict=True))
        batch = Batch._make(given.get(name) for name in Batch._fields)
        with torch.enable_grad():
            leaves = [weight.detach().requires_grad_() for weight in weights]
            found = functional_call(self, dict(zip(self._names, leaves, strict=True)), (batch,))
            loss, logs = (found, {}) if isinstance(found, Tensor) else found
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        if any(gradient is None for gradient in gradients):
            raise Unstackable("a loss does not depend on all weights")
        self.values = ["loss", *logs]
        return [*(g.contiguous() for g in gradients), loss.detach(), *(value.detach() for value in logs.values())]


class _Reading(Interpreter):
    """Does the operations of a graph with other tensors instead of those it has read."""

    def __init__(self, graph: GraphModule, constants: Mapping[str, Tensor]) -> None:
        super().__init__(graph)
        self._constants = constants

    def fetch_attr(self, target: str) -> Tensor:
        return self._constants[target]


def _check(jobs: Sequence[Job]) -> None:
    first = jobs[0]
    for job in jobs:
        if len(job.updates) > 1:
            raise Unstackable("the stage has more than one update a batch")
        if job.after_epoch is not None or any(value.is_floating_point() for value in job.tensors.values()):
            raise Unstackable("the stage keeps averages beside its weights")
        for module in job.model.modules():
            if isinstance(module, _BatchNorm | _DropoutNd):
                raise Unstackable(
                    f"a network has {type(module).__name__}, which is more than a function of its weights"
                )
        if any(getattr(job, name) != getattr(first, name) for name in ("epochs", "main", "rule")):
            raise Unstackable("they are not trained alike")
        own, other = job.batches, first.batches
        if (own.draws, own.batch_size, own.drop_last) != (other.draws, other.batch_size, other.drop_last):
            raise Unstackable("they have different numbers of images")
        if _options(job) != _options(first):
            raise Unstackable("they have different optimisers")


def _options(job: Job) -> list[Any]:
    """What an optimiser is, but for its weights."""
    optimiser = job.updates[0].optimiser
    groups = [{**group, "params": len(group["params"])} for group in optimiser.param_groups]
    return [type(optimiser), *groups]


def _check_operations(graph: GraphModule) -> None:
    """Refuse a graph that draws at random, or changes what it reads."""
    for node in graph.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in node.target.tags:
            raise Unstackable(f"the loss draws at random ({node.target})")
        if node.target._schema.is_mutable and any(read.op != "call_function" for read in node.all_input_nodes[:1]):
            raise Unstackable(f"the loss changes what it reads ({node.target})")


def _simplify(graph: GraphModule, inputs: Sequence[Any]) -> None:
    """Leave out what does nothing: a third of the operations, each of which costs a few microseconds a step."""
    ShapeProp(graph).propagate(*inputs)
    for node in graph.graph.nodes:
        target, given = node.target, node.all_input_nodes
        same = target in _VIEWS or (target is torch.ops.aten.mul.Scalar and node.args[1] == 1)
        if same and _layout(node) == _layout(given[0]):
            node.replace_all_uses_with(given[0])
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _layout(node: Node) -> tuple[Any, ...] | None:
    meta = node.meta.get("tensor_meta")
    return None if meta is None else (meta.shape, meta.stride, meta.dtype)


def _in_half_precision(graph: GraphModule) -> bool:
    """Whether a graph has products of bfloat16, or convolutions in TensorFloat-32."""
    for node in graph.graph.nodes:
        about = node.meta.get("tensor_meta")
        if not isinstance(about, TensorMetadata):
            continue
        convolution = node.target in (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
        if about.dtype == torch.bfloat16 or (
            convolution and torch.backends.cudnn.allow_tf32 and torch.cuda.is_available()
        ):
            return True
    return False


def _compare(found: Sequence[Tensor], alone: Sequence[Sequence[Tensor]], tolerance: float) -> None:
    for number, own in enumerate(alone):
        for many, single in zip(found, own, strict=True):
            # Also false for what is not a number.
            if not bool((many[number] - single).abs().max() <= tolerance * single.abs().max() + 1e-7):
                raise Unstackable("computed simultaneously they give other values than each by itself")


def _step_with(optimiser: Optimizer, copies: Mapping[Tensor, Tensor], gradients: Sequence[Tensor]) -> None:
    """A step of an optimiser like this one, with copies instead of its weights and of its states.

    copies : each weight's copy, which is changed, in the order of `gradients`
    """
    for copy, gradient in zip(copies.values(), gradients, strict=True):
        copy.grad = gradient
    groups = [{**group, "params": [copies[weight] for weight in group["params"]]} for group in optimiser.param_groups]
    made: Optimizer = type(optimiser)(groups)  # type: ignore[call-arg]
    for weight, copy in copies.items():
        if optimiser.state.get(weight):
            made.state[copy] = {
                name: value.clone() if isinstance(value, Tensor) else value
                for name, value in optimiser.state[weight].items()
            }
    made.step()


def _trained(job: Job) -> list[str]:
    """Names of the weights that the job's optimiser changes, which have to be its model's."""
    changed = {id(weight) for weight in _weights_of(job.updates[0].optimiser)}
    names = [name for name, weight in job.model.named_parameters() if id(weight) in changed]
    if len(names) < len(changed):
        raise Unstackable("the stage trains weights that are not its model's")
    return names


def _weights_of(optimiser: Optimizer) -> list[Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _sizes(job: Job) -> list[int]:
    """How many images the batches of an epoch have: full ones, and the last one."""
    full, rest = divmod(job.batches.draws, job.batches.batch_size)
    return [job.batches.batch_size] * (full > 0) + [rest] * (len(job.batches) > full)


def _present(batch: Batch) -> list[Tensor]:
    return [value for value in batch if value is not None]


def _one_or_stacked(each: Sequence[Tensor]) -> tuple[Tensor, int | None]:
    """A tensor that all read, or theirs stacked; with what `vmap` calls it."""
    if any(one.shape != each[0].shape for one in each):
        raise Unstackable("their losses read tensors of different shapes")
    if all(torch.equal(one, each[0]) for one in each):
        return each[0], None
    return torch.stack(list(each)), 0


def _joined(values: Sequence[Any]) -> Any:
    """An optimiser's state of one weight, stacked; counters, which are equal, stay one."""
    if not isinstance(values[0], Tensor):
        return values[0]
    if values[0].dim() == 0:
        if any(not torch.equal(value, values[0]) for value in values):
            raise Unstackable("their optimisers have not made equally many steps")
        return values[0].clone()
    return torch.stack(list(values))
