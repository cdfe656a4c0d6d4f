"""Directions of feature vectors."""

import torch
from torch import Tensor


def unit_rows(features: Tensor) -> Tensor:
    """Rows of float [B, D] scaled to length 1; a row of zeros has no direction, stays zero and gets no gradient.

    Dividing it by a small epsilon would hand it a huge gradient instead.
    """
    tiny = 1e-12
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(length > tiny, features, 0.0) / length.clamp_min(tiny)
