"""APGD on the cross-entropy, APGD toward the likeliest classes, and Square, in turn.

Follows AutoAttack's standard version (Croce & Hein 2020), without FAB, which rarely adds a success
to the first two. Each part attacks only images that are still classified correctly.
"""

from dataclasses import dataclass
from typing import Any

import torch

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import NORM_BALLS
from scoreag.attacks._search import run_sequentially
from scoreag.attacks.apgd import APGD
from scoreag.attacks.square import Square
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@dataclass(frozen=True)
class AutoEnsemble(Attack):
    """The defaults are AutoAttack's: 100 steps, 9 target classes, 5,000 queries.

    With fewer than 4 classes the targeted loss is the margin, as DLR is undefined.

    Args:
        steps: of each run of APGD.
        n_target_classes: target classes, one after the other, in descending order of their logits.
        n_queries: of Square; 0 leaves it out, as for a randomized defense.
    """

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    steps: int = option(100, above=0)
    n_target_classes: int = option(9, above=0)
    n_queries: int = option(5000, low=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        with torch.no_grad():
            n_classes = select_rows(classifier, [0])(images[:1]).shape[1]
        same: dict[str, Any] = {"eps": self.eps, "norm": self.norm, "eot_samples": self.eot_samples}
        loss, targets = "dlr" if n_classes >= 4 else "margin", self.n_target_classes
        attacks = [
            APGD(**same, steps=self.steps, loss="ce").run,
            APGD(**same, steps=self.steps, loss=loss, n_target_classes=targets).run,
        ]
        if self.n_queries:
            attacks.append(Square(**same, n_queries=self.n_queries).run)
        return run_sequentially(attacks, classifier, images, labels, noise, self.eot_samples)
