"""Pruning gates: which weights of a trained network to keep, learnt without touching the weights.

Source: DCWP (CVPR 2023, arXiv 2210.05247). Every weight w of the convolution and linear layers gets a gate logit pi.
With a level a and standard logistic noise L, drawn once for the whole batch:

    s = sigmoid((a + L) / temperature),  m = 1[s > 0.5],  effective weight = w * m,  and backwards dm := ds.

`textbook` sampling takes a = pi, so a weight is kept with probability sigmoid(pi). `reference` sampling follows the
official code, a = sigmoid(pi): the probability is sigmoid(sigmoid(pi)), never outside (0.5, 0.731). The hard mask is
1[pi >= 0] for both.

    gates = add_gates(network, "textbook")      # freezes the network; parameters to train: gates.parameters()
    gates.sample(generator)                     # before each training step
    gates.hard()                                # before each evaluation
    mask = gates.mask()
    fold_mask(network, mask)                    # a plain network again, trainable again
    apply_mask(network, mask)                   # keeps pruned weights at zero while it is fine-tuned
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from debias.errors import UserError

Sampling = Literal["textbook", "reference"]
Mask = dict[str, Tensor]
"""Layer name -> bool tensor of its weight's shape, True where the weight is kept."""

_Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear


class _StraightThrough(torch.autograd.Function):
    """Effective weight under a sampled mask. The weight gets no gradient: it is frozen while gates are learnt."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        weight: Tensor, logit: Tensor, noise: Tensor, temperature: float, doubled: bool
    ) -> tuple[Tensor, Tensor]:
        level = logit.sigmoid() if doubled else logit
        soft = level + noise
        # The mask as float: making and multiplying by a bool tensor takes five times as long on a CPU.
        hard = soft.sign().clamp_min_(0)
        if temperature != 1:
            soft.div_(temperature)
        # sigmoid_backward(g, s) is g * s * (1 - s) in one pass over memory.
        gain = torch.ops.aten.sigmoid_backward(weight, soft.sigmoid_())
        if temperature != 1:
            gain.div_(temperature)
        if doubled:
            gain = torch.ops.aten.sigmoid_backward(gain, level)
        return hard.mul_(weight), gain

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        gain = output[1]
        ctx.mark_non_differentiable(gain)
        ctx.save_for_backward(gain)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_gain: Tensor) -> tuple[None, Tensor, None, None, None]:
        (gain,) = ctx.saved_tensors
        return None, grad * gain, None, None, None


class Gate(nn.Module):
    """Parametrisation of one layer's weight; `logit` has the weight's shape.

    With `noise` (logistic, the weight's shape) the mask is sampled, without it the mask is hard.
    """

    logit: nn.Parameter
    noise: Tensor | None

    def __init__(self, weight: Tensor, sampling: Sampling, init: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        self.logit = nn.Parameter(torch.full_like(weight, init, requires_grad=False))
        self.register_buffer("noise", None, persistent=False)
        self.sampling = sampling
        self.temperature = temperature
        self.thaw: tuple[str, ...] = ()

    def forward(self, weight: Tensor) -> Tensor:
        if self.noise is None:
            return weight * (self.logit.detach() >= 0).to(weight.dtype)
        doubled = self.sampling == "reference"
        return _StraightThrough.apply(weight, self.logit, self.noise, self.temperature, doubled)[0]

    @torch.no_grad()
    def keep_probability(self) -> Tensor:
        """Probability that a sampled mask keeps each weight; the temperature does not enter."""
        level = self.logit.sigmoid() if self.sampling == "reference" else self.logit
        return level.sigmoid()


class Sparsity(NamedTuple):
    """Share of weights that the hard mask removes: of all gated weights, and of each layer's."""

    overall: float
    layers: dict[str, float]


class Gates:
    """Handle on the gates of a network that `add_gates` was called on. Starts, and loads, with the hard mask.

    Attributes
    ----------
    names : tuple of str
        Gated layers, in the order of the network.
    count : int
        Number of gates.
    """

    def __init__(self, network: nn.Module) -> None:
        found = dict(_find_gates(network))
        if not found:
            raise ValueError("the network has no gates; call add_gates on it first")
        self._gates = tuple(found.values())
        self.names = tuple(found)
        self.count = sum(gate.logit.numel() for gate in self._gates)
        self._noise: Tensor | None = None
        self._slices: list[Tensor] = []

    def parameters(self) -> list[nn.Parameter]:
        """Gate logits, one tensor a layer, in the order of `names`: what a pruning optimiser trains."""
        return [gate.logit for gate in self._gates]

    def logits(self) -> Tensor:
        """Copy of all gate logits, float [count], without gradient."""
        return torch.cat([logit.detach().reshape(-1) for logit in self.parameters()])

    def logit_sum(self) -> Tensor:
        """Signed sum of all gate logits, float scalar with gradient: DCWP's sparsity term before its factor."""
        return torch.stack([logit.sum() for logit in self.parameters()]).sum()

    def keep_probabilities(self) -> dict[str, Tensor]:
        """Probability that a sampled mask keeps each weight, layer name -> float tensor of the weight's shape."""
        return {name: gate.keep_probability() for name, gate in zip(self.names, self._gates, strict=True)}

    def sample(self, generator: torch.Generator) -> None:
        """Draw one mask per weight, in use until the next `sample` or `hard`, however many batches are run.

        One draw serves all gates. The generator lives on the device of the logits.
        """
        like = self._gates[0].logit
        if self._noise is None or self._noise.device != like.device:
            self._noise = like.new_empty(self.count)
            pieces = self._noise.split([gate.logit.numel() for gate in self._gates])
            self._slices = [piece.view_as(gate.logit) for piece, gate in zip(pieces, self._gates, strict=True)]
        # 2^-24 is the spacing of the uniforms; the bounds keep log u - log(1 - u) finite.
        self._noise.uniform_(generator=generator).logit_(eps=2.0**-24)
        for gate, noise in zip(self._gates, self._slices, strict=True):
            gate.noise = noise

    def hard(self) -> None:
        """Use the mask 1[pi >= 0] from now on; no gradient reaches the logits."""
        for gate in self._gates:
            gate.noise = None

    @torch.no_grad()
    def mask(self) -> Mask:
        """Hard mask, layer name -> bool tensor of the weight's shape; a copy."""
        return {name: gate.logit >= 0 for name, gate in zip(self.names, self._gates, strict=True)}

    def sparsity(self) -> Sparsity:
        """Removed share under the hard mask, overall and per layer. Waits for the device once."""
        kept = torch.stack([mask.sum() for mask in self.mask().values()]).tolist()
        layers = {n: 1 - k / g.logit.numel() for n, k, g in zip(self.names, kept, self._gates, strict=True)}
        return Sparsity(1 - sum(kept) / self.count, layers)


def add_gates(network: nn.Module, sampling: Sampling, init: float = 1.5, temperature: float = 1.0) -> Gates:
    """Put a gate on every weight of the convolution and linear layers, and freeze all the network had to train.

    In place; the state_dict gains `<layer>.parametrizations.weight.0.logit`. Until `fold_mask` is called, only the
    gates get gradients. Batch norm still follows `train()` and `eval()`.

    Parameters
    ----------
    sampling : {"textbook", "reference"}
        See the head of this file.
    init, temperature : float
        Of every logit; the temperature (above 0) shapes the gradient only, the sampled mask does not depend on it.

    Raises
    ------
    UserError
        When the sampling is unknown, the temperature is not above 0, or no layer can carry gates.
    """
    if sampling not in get_args(Sampling):
        raise UserError(f"pruning gates: sampling is {sampling!r}; set it to one of {', '.join(get_args(Sampling))}")
    if temperature <= 0:
        raise UserError(f"pruning gates: the temperature is {temperature}; set it above 0 (DCWP takes 1)")
    if next(_find_gates(network), None) is not None:
        raise ValueError("the network has gates already")
    layers = _gated_layers(network)
    if not layers:
        raise UserError("pruning gates: the network has no convolution or linear layer; choose another model")

    thaw = tuple(name for name, parameter in network.named_parameters() if parameter.requires_grad)
    network.requires_grad_(False)
    for layer in layers.values():
        gate = Gate(layer.weight, sampling, init, temperature)
        gate.thaw = thaw
        parametrize.register_parametrization(layer, "weight", gate)
    return Gates(network)


@torch.no_grad()
def fold_mask(network: nn.Module, mask: Mask) -> None:
    """Multiply a mask into the weights once and take the gates off, if there are any. In place.

    What `add_gates` froze can be trained again. Also works on a network without gates, for a mask from storage.

    Raises
    ------
    UserError
        When the mask belongs to another network; nothing is changed then.
    """
    layers = _check_mask(network, mask)
    thaw = next((gate.thaw for _, gate in _find_gates(network)), ())
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            # The weight came back behind the bias; optimiser state is stored by the order of parameters.
            bias = cast(nn.Parameter | None, layer.bias)
            del layer.bias
            layer.register_parameter("bias", bias)
        layer.weight.mul_(mask[name].to(layer.weight))
    for parameter in thaw:
        network.get_parameter(parameter).requires_grad_()


def apply_mask(network: nn.Module, mask: Mask) -> list[RemovableHandle]:
    """Keep the pruned weights of a folded network at zero while it is trained: their gradients become zero.

    Gradients are masked rather than weights after the step, because the training loop then needs to know nothing of
    masks and the clipping of gradient norms sees only living weights. A weight at zero with zero gradient stays there
    under SGD, momentum, Adam and weight decay, as long as the optimiser starts with fresh state.

    Parameters
    ----------
    network : nn.Module
        After `fold_mask`, on the device it is trained on. The hooks belong to its parameters; a copy has none.

    Returns
    -------
    Handles of the hooks; call `remove()` on each to let the weights go.

    Raises
    ------
    UserError
        When the mask belongs to another network.
    """
    layers = _check_mask(network, mask)
    if next(_find_gates(network), None) is not None:
        raise ValueError("the network still has gates; call fold_mask on it first")
    weights = {name: cast(nn.Parameter, layer.weight) for name, layer in layers.items()}
    return [
        w.register_post_accumulate_grad_hook(partial(_mask_gradient, mask[name].to(w))) for name, w in weights.items()
    ]


def _mask_gradient(kept: Tensor, weight: Tensor) -> None:
    if weight.grad is not None:
        weight.grad.mul_(kept)


def _gated_layers(network: nn.Module) -> dict[str, _Layer]:
    return {name: module for name, module in network.named_modules() if isinstance(module, _Layer)}


def _find_gates(network: nn.Module) -> Iterator[tuple[str, Gate]]:
    for name, layer in _gated_layers(network).items():
        if parametrize.is_parametrized(layer, "weight"):
            gates = layer.get_submodule("parametrizations.weight").children()
            yield from ((name, gate) for gate in gates if isinstance(gate, Gate))


def _check_mask(network: nn.Module, mask: Mask) -> dict[str, _Layer]:
    """The layers a mask is for, or a UserError that names the first difference."""
    layers = _gated_layers(network)
    advice = "use the mask that was made from this network, or build the network it was made from"
    for name in [*layers, *mask]:
        where = f"pruning mask: layer {name!r}"
        if name not in mask:
            raise UserError(f"{where} of the network is missing from the mask; {advice}")
        if name not in layers:
            raise UserError(f"{where} of the mask is not in the network; {advice}")
        want, have = tuple(layers[name].weight.shape), tuple(mask[name].shape)
        if want != have:
            raise UserError(f"{where} has weights of shape {want}, the mask has {have}; {advice}")
    return layers
