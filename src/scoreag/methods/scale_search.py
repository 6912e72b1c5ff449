"""``attack_scale="auto"``: for each image the smallest scale at which the classifier errs.

Every image is sampled at growing scales until one fools, then between the largest scale that did
not and the smallest that did, on a geometric grid, always from the same noise.  An image that is
done leaves the batch, and no image depends on another: any split gives the same bits.
"""

import math
from dataclasses import dataclass, replace

import torch

from scoreag.core.types import BatchScalar

AUTO = "auto"  # as an attack scale


@dataclass(frozen=True)
class ScaleSearch:
    """How the scale of an image is searched for.

    Args:
        first: the scale of the first sample.
        factor: by which the scale grows or falls until both sides are known.
        precision: the search ends where the two sides differ by this factor.
        least, most: the ends of the bracket.
    """

    first: float = 4.0
    factor: float = 4.0
    precision: float = 1.3
    least: float = 0.01
    most: float = 1e6


@dataclass(frozen=True)
class Brackets:
    """What is known of each image.

    Args:
        low: the largest scale that did not fool; 0 where none was tried.
        high: the smallest scale that fooled; infinite where none has.
    """

    low: BatchScalar
    high: BatchScalar

    @classmethod
    def unknown(cls, count: int) -> "Brackets":
        """Before the first sample."""
        zeros = torch.zeros(count, dtype=torch.float64)
        return cls(zeros, torch.full_like(zeros, math.inf))

    def update(self, rows: list[int], scales: BatchScalar, fooled: torch.Tensor) -> "Brackets":
        """After samples of ``rows`` at these scales."""
        low, high = self.low.clone(), self.high.clone()
        low[rows] = torch.where(fooled, low[rows], torch.maximum(low[rows], scales))
        high[rows] = torch.where(fooled, torch.minimum(high[rows], scales), high[rows])
        return replace(self, low=low, high=high)

    def next_scales(self, search: ScaleSearch) -> BatchScalar:
        """The scale to try next for each image; NaN where the search is over."""
        low, high = self.low, self.high
        new = (low == 0) & high.isinf()
        up, down = high.isinf() & ~new, (low == 0) & ~new
        scales = (low * high).sqrt()  # between the two
        scales = torch.where(up, low * search.factor, scales)
        scales = torch.where(down, high / search.factor, scales)
        scales = torch.where(new, torch.full_like(low, search.first), scales)
        over = ~(up | down | new) & (high <= low * search.precision)
        over |= up & (low >= search.most) | down & (high <= search.least)
        scales = scales.clamp(search.least, search.most)
        return torch.where(over, torch.full_like(scales, math.nan), scales)
