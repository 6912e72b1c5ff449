"""APGD on the cross-entropy, APGD towards the likeliest classes, and Square, in turn.

In the spirit of AutoAttack's standard version (Croce & Hein 2020), without FAB, which seldom adds a
success to the first two. Each part sees only images that are still read right.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from scoreag.attacks._common.attack import Attack, option
from scoreag.attacks._common.norms import NORM_BALLS
from scoreag.attacks._common.search import AttackFunction, run_sequentially
from scoreag.attacks.apgd import APGD
from scoreag.attacks.square import Square
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

MIN_DLR_CLASSES = 4  # that the targeted DLR loss needs


@dataclass(frozen=True)
class AutoEnsemble(Attack):
    """The defaults are AutoAttack's: 100 steps, 9 targets, 5,000 queries.

    With fewer than 4 classes the targeted loss is the margin, as DLR has no value there.

    Args:
        eps: radius of the ball, pixels in [0, 1].
        norm: "Linf" or "L2".
        steps: of each run of APGD.
        n_target_classes: targets, one after the other, from the likeliest wrong class on.
        n_queries: of Square; 0 leaves it out, as for a randomized defense.
        eot_samples: calls of the classifier that a gradient is the mean of; more than 1 for a
            randomized defense.
    """

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    steps: int = option(100, above=0)
    n_target_classes: int = option(9, above=0)
    n_queries: int = option(5000, low=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        """Images in [0, 1] within ``eps`` of the originals."""
        with torch.no_grad():
            n_classes = select_rows(classifier, [0])(images[:1]).shape[1]
        attacks = self._build_attacks(n_classes)
        return run_sequentially(attacks, classifier, images, labels, noise, self.eot_samples)

    def _build_attacks(self, n_classes: int) -> Iterator[AttackFunction]:
        same: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "eot_samples": self.eot_samples}
        loss, targets = "dlr" if n_classes >= MIN_DLR_CLASSES else "margin", self.n_target_classes
        yield APGD(**same, steps=self.steps, loss="ce").run
        yield APGD(**same, steps=self.steps, loss=loss, n_target_classes=targets).run
        if self.n_queries:
            yield Square(**same, n_queries=self.n_queries).run
