"""``"auto"``: for each image the weakest attack at which the classifier errs.

The strength of an attack grows until it fools, and is then searched for between the strongest that
did not and the weakest that did, on a geometric grid, always from the same noise.  An image that is
done leaves the batch, and no image depends on another: any split gives the same bits.

The strength is the attack scale, or one over the similarity.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.core.types import BatchScalar

AUTO = "auto"  # as an attack scale or a similarity


@dataclass(frozen=True)
class ScaleSearch:
    """How the strength of an attack on an image is searched for.

    Args:
        first: the strength of the first sample.
        least, most: the ends of the search.
        factor: by which the strength grows or falls until both sides are known.
        precision: the search ends where the two sides differ by this factor.
        margin: by how many logits the classifier must err on the 8-bit image.
        draws: fresh predictions of a random classifier.
        share: of these that must err by the margin.
    """

    first: float
    least: float
    most: float
    factor: float = 4.0
    precision: float = 1.3
    margin: float = 0.05
    draws: int = 8
    share: float = 0.75


SEARCHES = {  # by the option that is found
    "attack_scale": ScaleSearch(first=4.0, least=0.01, most=1e6),
    "similarity": ScaleSearch(first=1e-3, least=1e-6, most=10.0),  # one over it
}


def searched_option(config: Mapping[str, Any]) -> str:
    """The option that a config searches for, or ""."""
    return next((name for name in SEARCHES if config.get(name) == AUTO), "")


def strength_to_option(option: str, strengths: BatchScalar) -> BatchScalar:
    """The attack scales or similarities of attacks of these strengths."""
    return 1 / strengths if option == "similarity" else strengths


def at_end(option: str, value: float) -> int:
    """-1 where the value of an option is that of the weakest attack of its search, 1: strongest."""
    search = SEARCHES[option]
    strength = 1 / value if option == "similarity" else value
    return int(strength >= search.most) - int(strength <= search.least)


@dataclass(frozen=True)
class Brackets:
    """What is known of each image.

    Args:
        first: the strength to try first.
        low: the largest strength that did not fool; 0 where none was tried.
        high: the smallest that fooled; infinite where none has.
        ceiling: the smallest at which the chain diverged; infinite where none has.
    """

    first: BatchScalar
    low: BatchScalar
    high: BatchScalar
    ceiling: BatchScalar

    @classmethod
    def start(cls, first: BatchScalar) -> "Brackets":
        """Before the first sample."""
        unknown = torch.full_like(first, math.inf)
        return cls(first, torch.zeros_like(first), unknown, unknown)

    def update(
        self,
        rows: list[int],
        strengths: BatchScalar,
        fooled: Bool[Tensor, " batch"],
        finite: Bool[Tensor, " batch"],
    ) -> "Brackets":
        """After samples of ``rows`` at these strengths."""
        low, high, ceiling = self.low.clone(), self.high.clone(), self.ceiling.clone()
        failed = ~fooled & finite
        low[rows] = torch.where(failed, torch.maximum(low[rows], strengths), low[rows])
        high[rows] = torch.where(fooled, torch.minimum(high[rows], strengths), high[rows])
        ceiling[rows] = torch.where(
            finite, ceiling[rows], torch.minimum(ceiling[rows], strengths)
        )  # fmt: skip
        return replace(self, low=low, high=high, ceiling=ceiling)

    def next_strengths(self, search: ScaleSearch) -> BatchScalar:
        """The strength to try next for each image; NaN where the search is over."""
        upper = torch.minimum(self.high, self.ceiling)
        unknown_low, unknown_upper = self.low == 0, upper.isinf()
        new = unknown_low & unknown_upper
        up = (self.low * search.factor).clamp(search.first, search.most)
        down = (upper / search.factor).clamp(min=search.least)
        between = (self.low * upper).sqrt()
        strengths = torch.where(unknown_low, down, torch.where(unknown_upper, up, between))
        over = torch.where(unknown_low, upper <= search.least, upper <= self.low * search.precision)
        over = torch.where(unknown_upper, self.low >= search.most, over) & ~new
        return torch.where(over, math.nan, torch.where(new, self.first, strengths))
