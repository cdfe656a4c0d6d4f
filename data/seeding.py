"""Independent random streams from one seed."""

import hashlib

import torch


def stream(seed: int, use: str) -> torch.Generator:
    """Return a CPU generator for one `use` of `seed`: the same pair repeats its numbers, other uses are unrelated."""
    name = hashlib.sha256(f"{seed}/{use}".encode()).digest()
    # Torch's CPU generator keeps only the low 32 bits of a seed.
    return torch.Generator().manual_seed(int.from_bytes(name[:4], "big"))
