"""AutoAttack itself, by its authors' code; Croce & Hein (2020), MIT; where it is installed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.borrowed import AsModule, installed, one_by_one
from scoreag.search.door import door
from scoreag.search.options import answering, check

NORMS = {"linf": "Linf", "l2": "L2"}


@answering
@dataclass(frozen=True)
class Attack:
    """``autoattack.AutoAttack``, an image at a time and in float32.

    ``ensemble`` is our own of its kind.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "linf" or "l2".
        version: "standard", "plus", or "rand" for a defence that draws.
    """

    epsilon: float = 8 / 255
    norm: str = "linf"
    version: str = "standard"

    def __post_init__(self) -> None:
        check(self, above_zero=("epsilon",), norm=NORMS, version=["standard", "plus", "rand"])

    @door(guides=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        return one_by_one(self._run, classifier, images, labels, noise)

    def _run(self, module: AsModule, images: Images, labels: Labels, seed: int) -> Tensor:
        library = installed("autoattack", "git+https://github.com/fra31/auto-attack")
        with torch.no_grad():
            others = module(images).shape[1] - 1
        if others < 3:
            raise ValueError(
                f"autoattack needs 4 classes, and the classifier knows {others + 1}; take ensemble"
            )
        attack = library.AutoAttack(
            module,
            norm=NORMS[self.norm],
            eps=self.epsilon,
            seed=seed,
            version=self.version,
            device=images.device,
            verbose=False,
        )
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, others)
        # it mixes float32 into what it was given
        return attack.run_standard_evaluation(images.float(), labels, bs=len(images))
