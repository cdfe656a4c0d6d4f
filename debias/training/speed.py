"""What makes training faster without another method: the layout of images, bfloat16, compiled networks.

Each is `on`, `off` or `auto`. What `auto` means:

    channels_last   on a CUDA GPU for networks with convolutions; elsewhere off
    bfloat16        the same, where the GPU computes in it, but not for stages that depend on the last bits of gradients
                    (see `Stage.exact`), nor for networks of large kernels: on an H200 a step was 7 to 15 % faster by
                    it with kernels up to 5x5 (LeNet to ResNet-18), and 38 % slower with EnD's 7x7, whose gradient has
                    no fast kernel in cuDNN
    compile         off: compiling takes longer than it saves unless the run is long

On a CPU nothing is on by itself, so that results there depend on nothing but float32. What was on is part of a stage's
report.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from debias.errors import UserError
from debias.models.backbone import Backbone, Joinable
from debias.settings import Setting
from debias.training.stage import Context

CHOICES = ("auto", "on", "off")
SPEED_SETTINGS: dict[str, Setting] = {
    "channels_last": Setting(
        "auto", "channels-last memory layout; auto: for convolutions on a CUDA GPU", choices=CHOICES
    ),
    "bfloat16": Setting(
        "auto", "compute features in bfloat16; auto: for convolutions on a CUDA GPU that can", choices=CHOICES
    ),
    "compile": Setting("auto", "compile networks with torch.compile; auto: no", choices=CHOICES),
}


def speed_up(model: nn.Module, ctx: Context) -> dict[str, bool]:
    """Prepare a network on its device as the run's settings say, in place; which of the three are on.

    Weights, losses and the classifier stay in float32: bfloat16 is for the inside of backbones.
    """
    on = chosen(model, ctx.settings, ctx.device, exact=ctx.exact)
    if on["bfloat16"] and isinstance(model, Joinable):
        model.part()  # their joint product is of float32
    if on["channels_last"]:
        model.to(memory_format=torch.channels_last)
    for module in model.modules():
        if isinstance(module, Backbone) and not module.prepared:
            if on["bfloat16"]:
                for name in module.parts:
                    setattr(module, name, _in_bfloat16(getattr(module, name), ctx.device.type))
            if on["compile"]:
                module.compile()
            module.prepared = True
    return on


def chosen(model: nn.Module, settings: Mapping[str, Any], device: torch.device, *, exact: bool) -> dict[str, bool]:
    """What is on for a network: as the settings say, or on a CUDA GPU by itself where there are convolutions."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    gpu = device.type == "cuda" and bool(convolutions)
    # A large kernel of stride 2, as of ResNet's entry, is a small part of its network.
    large = any(max(each.kernel_size) > 5 and each.stride == (1, 1) for each in convolutions)
    by_itself = {
        "channels_last": gpu,
        "bfloat16": gpu and not exact and not large and torch.cuda.is_bf16_supported(including_emulation=False),
        "compile": False,
    }
    return {
        name: alone if settings.get(name, "auto") == "auto" else settings[name] == "on"
        for name, alone in by_itself.items()
    }


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing.

    Raises
    ------
    UserError
        When torch cannot compile here.
    """
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(2, device=device))
    except Exception as error:  # compilers fail in ways of their own
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"compile=on: torch cannot compile here ({first[:200]}); leave compile=auto") from error


def _in_bfloat16(forward: Callable[[Tensor], Tensor], device: str) -> Callable[[Tensor], Tensor]:
    @wraps(forward)
    def computed(images: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return forward(images).float()

    return computed
