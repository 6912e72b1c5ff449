"""APGD on the cross-entropy, APGD towards the likeliest classes, and Square, in turn.

Equal in spirit to the standard version of AutoAttack (Croce & Hein 2020), but without its third
part, FAB, which seldom adds a success to the first two. Each part sees only images that stand.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from scoreag.attacks import apgd, square
from scoreag.core.noise import Noise
from scoreag.core.rows import of_rows
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.balls import BALLS
from scoreag.search.door import door
from scoreag.search.options import answering, check
from scoreag.search.turns import Search, in_turn

LEAST = 4  # classes that the targeted DLR loss needs


@answering
@dataclass(frozen=True)
class Attack:
    """The defaults are AutoAttack's: 100 steps, 9 targets, 5,000 queries.

    With fewer than 4 classes the targets are aimed at by margin, as DLR has no value there.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "linf" or "l2".
        steps: of each run of APGD.
        targets: classes aimed at, one after the other, from the likeliest wrong one on.
        queries: of Square; 0 leaves it out, as for a defence that draws.
        draws: calls of the classifier that a gradient is the mean of; more than 1 for a defence
            that draws.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    steps: int = 100
    targets: int = 9
    queries: int = 5000
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("epsilon", "steps", "targets", "draws")
        check(self, above_zero=positive, norm=BALLS, ranges={"queries": (0, math.inf)})

    @door()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        with torch.no_grad():
            classes = of_rows(classifier, [0])(images[:1]).shape[1]
        return in_turn(self._parts(classes), classifier, images, labels, noise, self.draws)

    def _parts(self, classes: int) -> Iterator[Search]:
        size: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "draws": self.draws}
        run = partial(apgd.Attack, **size, steps=self.steps)
        yield run(loss="ce")
        yield run(loss="dlr" if classes >= LEAST else "margin", targets=self.targets)
        if self.queries:
            yield square.Attack(**size, queries=self.queries)
