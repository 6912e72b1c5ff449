"""Logistic regression of shares on one number."""

import torch
from jaxtyping import Float
from torch import Tensor

STEPS = 50
LARGEST = 100.0  # a coefficient beyond it grows without end

Values = Float[Tensor, " n"]


def fit_line(x: Values, share: Values, weights: Values | None = None) -> tuple[float, float] | None:
    """Slope and offset of the largest likelihood, by Newton's method; None if there is no maximum.

    Args:
        weights: the number of answers of which each share is, by default equally many.
    """
    slope, offset, x, share = 0.0, 0.0, x.double(), share.double()
    counts = torch.ones_like(x) if weights is None else weights.double()
    for _ in range(STEPS):
        p = torch.sigmoid(slope * x + offset)
        w, residual = counts * p * (1 - p), counts * (share - p)
        gradient = torch.stack([(residual * x).sum(), residual.sum()])
        mixed = (w * x).sum()
        rows = [torch.stack([(w * x * x).sum(), mixed]), torch.stack([mixed, w.sum()])]
        hessian = torch.stack(rows) + 1e-12 * torch.eye(2, dtype=x.dtype)
        step = torch.linalg.solve(hessian, gradient).tolist()
        slope, offset = slope + step[0], offset + step[1]
        if max(abs(slope), abs(offset)) > LARGEST:
            return None
        if max(map(abs, step)) < 1e-9:
            return slope, offset
    return None
