"""Seeds and generators for every use, derived from the run's one seed."""

import hashlib

import torch


def derive(seed: int, *uses: str | int) -> int:
    """A seed in [0, 2**32) for one use of a run's seed; other uses get unrelated ones.

    Torch's CPU generator keeps only the low 32 bits of a seed.
    """
    name = "/".join(str(part) for part in (seed, *uses))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def generator_for(device: torch.device, seed: int, *uses: str | int) -> torch.Generator:
    """A generator on `device` for one use of a run's seed: the same use repeats its numbers."""
    return torch.Generator(device=device).manual_seed(derive(seed, *uses))


def stream(seed: int, use: str) -> torch.Generator:
    """A generator on the CPU for one use of a run's seed."""
    return generator_for(torch.device("cpu"), seed, use)
