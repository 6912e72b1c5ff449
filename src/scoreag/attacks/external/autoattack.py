"""AutoAttack itself, by its authors' code; Croce & Hein (2020), MIT; where it is installed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.attacks._common.adapters import ClassifierModule, require_package, run_per_image
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

NORMS = {"Linf": "Linf", "L2": "L2"}


@suggest_option_names
@dataclass(frozen=True)
class AutoAttack:
    """``autoattack.AutoAttack``, an image at a time and in float32.

    ``ensemble`` is our own of its kind.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        norm: "Linf" or "L2".
        version: "standard", "plus", or "rand" for a defence that draws.
    """

    eps: float = 8 / 255
    norm: str = "Linf"
    version: str = "standard"

    def __post_init__(self) -> None:
        validate_attack_options(
            self, positive=("eps",), norm=NORMS, version=["standard", "plus", "rand"]
        )

    @validate_inputs(require_grad=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        return run_per_image(self._run, classifier, images, labels, noise)

    def _run(self, module: ClassifierModule, images: Images, labels: Labels, seed: int) -> Tensor:
        library = require_package("autoattack", "git+https://github.com/fra31/auto-attack")
        with torch.no_grad():
            others = module(images).shape[1] - 1
        if others < 3:
            raise ValueError(
                f"autoattack needs 4 classes, and the classifier knows {others + 1}; take ensemble"
            )
        attack = library.AutoAttack(
            module,
            norm=NORMS[self.norm],
            eps=self.eps,
            seed=seed,
            version=self.version,
            device=images.device,
            verbose=False,
        )
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, others)
        # it mixes float32 into what it was given
        return attack.run_standard_evaluation(images.float(), labels, bs=len(images))
