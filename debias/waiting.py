"""How long the threads of an operation spin for the next one before they sleep; to be imported before torch.

Torch's OpenMP reads it from the environment when torch is loaded, and processes that are started inherit it. By itself
it lets threads spin for up to 300,000 turns, some 15 ms of a core that other programs want; a training step leaves
none of its threads waiting for more than 1 or 2. A variable of one's own in the environment wins.
"""

import os

# What decides about it, of GNU's OpenMP, which torch's wheels for Linux bring. Other OpenMPs know the first as well.
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
POLICY = {"GOMP_SPINCOUNT": "30000"}

if not any(name in os.environ for name in VARIABLES):
    os.environ.update(POLICY)


def ours() -> bool:
    """Whether the environment has this policy, and not one of the user."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ} == POLICY
