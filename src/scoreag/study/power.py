"""How many images and people show a difference between two conditions.

The model: an image is seen by m people; the label is seen by a share of p + d/2 in one condition
and p - d/2 in the other; answers on one image correlate by ICC, and images are independent.  The
difference of the two shares over n images each has the variance

    (p1 (1 - p1) + p2 (1 - p2)) (1 + (m - 1) ICC) / (m n),

and a two-sided normal test of it the power below.  People see all conditions equally often, so
their own level cancels.  Conditions that show versions of the same images need fewer.
"""

import math
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtr, ndtri


@dataclass(frozen=True)
class Design:
    """A study to plan.

    Args:
        raters: people an image.
        baseline: the mean share of both conditions.
        icc: the correlation of two answers on one image.
        trials: main trials a person.
    """

    raters: int = 5
    difference: float = 0.05
    baseline: float = 0.9
    icc: float = 0.3
    power: float = 0.8
    alpha: float = 0.05
    conditions: int = 4
    trials: int = 200

    def __post_init__(self) -> None:
        for name, low in (("raters", 1), ("conditions", 2), ("trials", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {low} or more")
        for name in ("baseline", "power", "alpha", "difference"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name):g}; expected a share between 0 and 1"
                )
        if not 0 <= self.icc <= 1:
            raise ValueError(f"icc is {self.icc:g}; expected a correlation from 0 to 1")
        if self.power <= self.alpha:
            raise ValueError(
                f"power {self.power:g} is not above alpha {self.alpha:g}; write e.g. 0.8 and 0.05"
            )
        if not self.difference / 2 < min(self.baseline, 1 - self.baseline):
            raise ValueError(
                f"a difference of {self.difference:g} around {self.baseline:g} leaves 0 to 1; "
                "write a smaller difference, or another baseline"
            )


def variance_of_image(design: Design) -> float:
    """The variance of the difference, times the number of images of a condition."""
    shares = [design.baseline + sign * design.difference / 2 for sign in (-1, 1)]
    binomial = sum(p * (1 - p) for p in shares)
    return binomial * (1 + (design.raters - 1) * design.icc) / design.raters


def count_images(design: Design) -> int:
    """The fewest images of a condition that reach the power."""
    z = float(ndtri(1 - design.alpha / 2) + ndtri(design.power))
    return max(2, math.ceil(z**2 * variance_of_image(design) / design.difference**2))


def compute_power(design: Design, images: int) -> float:
    """The probability that ``images`` of a condition show the difference."""
    z = float(ndtri(1 - design.alpha / 2))
    signal = design.difference / math.sqrt(variance_of_image(design) / images)
    return float(ndtr(signal - z) + ndtr(-signal - z))


def count_people(design: Design, images: int) -> int:
    """People, where nobody sees two versions of an image: ``raters`` for each list."""
    lists = max(math.ceil(images * design.conditions / design.trials), design.conditions)
    return design.raters * lists


def plan_study(design: Design) -> dict[str, Any]:
    """Images, answers and people of a design, and the power that they have."""
    images = count_images(design)
    return {
        "raters": design.raters,
        "difference": design.difference,
        "images": images,
        "answers": images * design.conditions * design.raters,
        "people": count_people(design, images),
        "power": round(compute_power(design, images), 4),
    }
