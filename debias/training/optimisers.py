"""Optimisers by name, in their fastest implementation for the device."""

from collections.abc import Callable, Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer


class _WithoutCompiler(Optimizer):
    """An optimiser that does not load torch's compiler, which takes longer than a small training: 1.4 s.

    torch wraps these methods to keep them out of compiled code, and loads the compiler to do so. Here networks are
    compiled, never what moves their weights.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    state_dict = unwrap(Optimizer.state_dict)
    load_state_dict = unwrap(Optimizer.load_state_dict)


class _Sgd(_WithoutCompiler, SGD):
    step = torch.no_grad()(unwrap(SGD.step))


class _KeptLists(_WithoutCompiler, Adam):
    """Adam whose fused step is two calls, with the numbers and the state of torch's own, bit for bit.

    torch gathers the weights, their moments and counters into lists again in every step and adds one to each counter by
    itself, a tenth of a step of a small network. Here the lists are kept, and the counters are one tensor.
    """

    # Of each group: itself, its weights, first and second moments, counters, and these as one tensor.
    _kept: list[tuple[Any, ...]] | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all weights; torch's own where there is a closure, a weight without gradient, or no state."""
        if closure is not None or any(p.grad is None for group in self.param_groups for p in group["params"]):
            return self._by_torch(closure)
        if self._kept is None and not self._keep():
            return self._by_torch()
        for group, weights, first, second, counters, count in self._kept or ():
            count.add_(1)
            update = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
            update(
                weights,
                [weight.grad for weight in weights],
                first,
                second,
                [],
                counters,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
            )
        return None

    _by_torch = unwrap(Adam.step)

    def _keep(self) -> bool:
        """Gather the lists once, when torch's first step has made the state. Whether they can be used."""
        kept: list[tuple[Any, ...]] = []
        for group in self.param_groups:
            weights = group["params"]
            states = [self.state.get(weight, {}) for weight in weights]
            plain = group["fused"] and not group["amsgrad"] and not group["maximize"]
            if not (plain and weights and all("step" in state for state in states)):
                return False
            places = {(weight.device, weight.dtype) for weight in weights} | {
                (state["step"].device, torch.float32) for state in states
            }
            if len(places) > 1:
                return False
            count = torch.stack([state["step"] for state in states])
            for state, counter in zip(states, count, strict=True):
                state["step"] = counter
            moments = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
            kept.append((group, list(weights), *moments, count))
        self._kept = kept
        return True

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self._kept = None

    def add_param_group(self, param_group: Any) -> None:
        super().add_param_group(param_group)
        self._kept = None


class _AdamW(_KeptLists, AdamW):
    pass


OPTIMISERS: dict[str, Callable[..., Optimizer]] = {
    "adam": _KeptLists,
    "adamw": _AdamW,
    "sgd": _Sgd,
}


def make_optimiser(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    learning_rate: float,
    weight_decay: float,
    beta2: float = 0.999,
    momentum: float = 0.9,
) -> Optimizer:
    """A fused optimiser over the parameters that require gradients.

    `adam` adds weight_decay * weight to the gradient (L2), as the papers' code does; `adamw` decays the weights
    themselves. `beta2` is for these two, `momentum` for `sgd`.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    options: dict[str, Any] = {"momentum": momentum} if name == "sgd" else {"betas": (0.9, beta2)}
    if name != "sgd" and any(parameter.is_cuda for parameter in trained):
        # Fused steps on a GPU keep their counters there anyway; this has torch record them as a CUDA graph.
        options["capturable"] = True
    made = OPTIMISERS[name](trained, lr=learning_rate, weight_decay=weight_decay, fused=_can_fuse(trained), **options)
    if name == "sgd" and momentum:
        # The fused step takes weights with a velocity or weights without, not both: where some have no gradient in the
        # first step, as with two updates of different parts, the next one would fail. Zero is where they start anyway.
        for parameter in trained:
            made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return made


def lay_out_state(optimiser: Optimizer) -> None:
    """Lay moments and velocities out in memory as their weights are, in place; their values stay.

    Weights take another layout after the optimiser was made (`channels_last`), and a checkpoint's state has that of the
    machine it was written on. A fused step on a CUDA GPU refuses a state whose strides are not its weight's.
    """
    for weight, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(value)


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in parameters)
