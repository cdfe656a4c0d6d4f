"""Optimisers: the same numbers as torch's own, by a shorter way."""

import copy
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from debias.training.code import ROOT
from debias.training.optimisers import lay_out_state, make_optimiser


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adam", partial(Adam, betas=(0.9, 0.99))),
        ("adamw", partial(AdamW, betas=(0.9, 0.99))),
        ("sgd", partial(SGD, momentum=0.9)),
    ],
)
def test_each_gives_torchs_numbers_bit_for_bit(name, plain):
    """Also after a step in which a weight has no gradient, a state loaded again, and another learning rate."""
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    theirs = copy.deepcopy(ours)
    pairs = [
        (ours, make_optimiser(name, ours.parameters(), learning_rate=1e-2, weight_decay=1e-2, beta2=0.99)),
        (theirs, plain(theirs.parameters(), lr=1e-2, weight_decay=1e-2, fused=True)),
    ]
    kept = []
    for step in range(12):
        images = torch.randn(8, 6)
        for network, optimiser in pairs:
            optimiser.zero_grad()
            network(images).square().sum().backward()
            if step == 4:
                network[0].bias.grad = None
            if step == 7:
                optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
            if step == 9:
                optimiser.param_groups[0]["lr"] = 1e-3
            optimiser.step()
        kept.append(name == "sgd" or pairs[0][1]._kept is not None)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, other), step
    assert kept[1] and kept[5] and kept[-1], "the short way is taken"
    states = [optimiser.state_dict()["state"] for _, optimiser in pairs]
    for number, state in states[1].items():
        assert all(torch.equal(states[0][number][key], value) for key, value in state.items())


@pytest.mark.parametrize(("name", "plain"), [("adam", Adam), ("adamw", AdamW), ("sgd", partial(SGD, momentum=0.9))])
def test_weights_that_no_fused_step_takes_are_moved_as_by_torch(name, plain):
    """Steps made of single operations are refused by autograd where it is not switched off around them."""
    ours = nn.Linear(6, 5, dtype=torch.float64)
    theirs = copy.deepcopy(ours)
    optimisers = [
        make_optimiser(name, ours.parameters(), learning_rate=1e-2, weight_decay=1e-2),
        plain(theirs.parameters(), lr=1e-2, weight_decay=1e-2),
    ]
    for _ in range(3):
        for network, optimiser in zip((ours, theirs), optimisers, strict=True):
            optimiser.zero_grad()
            network(torch.ones(4, 6, dtype=torch.float64)).square().sum().backward()
            optimiser.step()
    assert not optimisers[0].param_groups[0]["fused"]
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_state_is_laid_out_as_its_weight_and_keeps_its_values(name):
    """A fused step on a GPU refuses any other: weights may be laid out again after the optimiser was made."""
    torch.manual_seed(0)
    model, images = nn.Conv2d(3, 4, 3), torch.rand(2, 3, 5, 5)
    optimiser = make_optimiser(name, model.parameters(), learning_rate=1e-2, weight_decay=0.0)
    model(images).sum().backward()
    optimiser.step()
    model.to(memory_format=torch.channels_last)
    before = {key: value.clone() for key, value in optimiser.state[model.weight].items()}
    lay_out_state(optimiser)
    after = optimiser.state[model.weight]
    moments = [key for key, value in after.items() if value.shape == model.weight.shape]
    assert moments and all(after[key].stride() == model.weight.stride() for key in moments)
    assert all(torch.equal(after[key], value) for key, value in before.items())


LOADED = """
import gc, sys
import debias.main
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
import torch
from debias.training.optimisers import OPTIMISERS, make_optimiser
for name in OPTIMISERS:
    layer = torch.nn.Linear(3, 2)
    made = make_optimiser(name, layer.parameters(), learning_rate=0.1, weight_decay=0.1)
    for _ in range(2):
        made.zero_grad()
        layer(torch.ones(4, 3)).sum().backward()
        made.step()
    made.load_state_dict(made.state_dict())
print("torch._dynamo" in sys.modules)
made.add_param_group({"params": torch.nn.Linear(3, 2).parameters()})
torch.optim.SGD(layer.parameters()).step()
print("torch._dynamo" in sys.modules)
"""


def test_a_program_loads_no_compiler_to_train_and_collects_garbage_again():
    """The compiler takes as long to load as torch; torch's own optimiser does so, or this test could not fail."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False", "True"]
