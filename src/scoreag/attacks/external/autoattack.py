"""AutoAttack itself, by its authors' code; Croce & Hein (2020), MIT; where it is installed."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoreag.attacks._attack import option
from scoreag.attacks.external import ExternalAttack, require_package
from scoreag.core.types import Images, Labels


@dataclass(frozen=True)
class AutoAttack(ExternalAttack):
    """``autoattack.AutoAttack``, one image at a time and in float32.

    ``AutoEnsemble`` is this library's own attack of the kind.

    Args:
        version: "standard", "plus", or "rand" for a randomized defense.
    """

    eps: float = option(8 / 255, above=0)
    norm: str = option("Linf", among=("Linf", "L2"))
    version: str = option("standard", among=("standard", "plus", "rand"))

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        library = require_package("autoattack", "git+https://github.com/fra31/auto-attack")
        with torch.no_grad():
            others = module(images).shape[1] - 1
        if others < 3:
            raise ValueError(
                f"autoattack needs 4 classes, and the classifier knows {others + 1}; "
                "take auto_ensemble"
            )
        attack = library.AutoAttack(
            module, norm=self.norm, eps=self.eps, seed=seed, version=self.version,
            device=images.device, verbose=False,
        )  # fmt: skip
        for part in (attack.apgd_targeted, attack.fab):
            part.n_target_classes = min(part.n_target_classes, others)
        # AutoAttack mixes float32 into images of any dtype
        return attack.run_standard_evaluation(images.float(), labels, bs=len(images))
