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
from scoreag.attacks._common.norms import NORM_BALLS
from scoreag.attacks._common.sequential import AttackFunction, run_sequentially
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

MIN_DLR_CLASSES = 4  # classes that the targeted DLR loss needs


@suggest_option_names
@dataclass(frozen=True)
class AutoEnsemble:
    """The defaults are AutoAttack's: 100 steps, 9 targets, 5,000 queries.

    With fewer than 4 classes the targets are aimed at by margin, as DLR has no value there.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "Linf" or "L2".
        steps: of each run of APGD.
        targets: classes aimed at, one after the other, from the likeliest wrong one on.
        queries: of Square; 0 leaves it out, as for a defence that draws.
        draws: calls of the classifier that a gradient is the mean of; more than 1 for a defence
            that draws.
    """

    eps: float = 8 / 255
    norm: str = "Linf"
    steps: int = 100
    n_target_classes: int = 9
    n_queries: int = 5000
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("eps", "steps", "n_target_classes", "eot_samples")
        validate_attack_options(
            self, positive=positive, norm=NORM_BALLS, ranges={"n_queries": (0, math.inf)}
        )

    @validate_inputs()
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        with torch.no_grad():
            classes = select_rows(classifier, [0])(images[:1]).shape[1]
        return run_sequentially(
            self._build_attacks(classes), classifier, images, labels, noise, self.eot_samples
        )

    def _build_attacks(self, n_classes: int) -> Iterator[AttackFunction]:
        size: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "eot_samples": self.eot_samples}
        run = partial(apgd.APGD, **size, steps=self.steps)
        yield run(loss="ce")
        yield run(
            loss="dlr" if n_classes >= MIN_DLR_CLASSES else "margin",
            n_target_classes=self.n_target_classes,
        )
        if self.n_queries:
            yield square.Square(**size, n_queries=self.n_queries)
