"""Every attack of torchattacks, by its name there, e.g. PGD; Kim (2020), MIT; where installed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from scoreag.attacks.external import ExternalAttack, OptionPairs, require_package
from scoreag.core.types import Images, Labels


@dataclass(frozen=True)
class TorchAttacks(ExternalAttack):
    """An attack of ``torchattacks``, one image at a time.

    Args:
        name: of its class there.
        options: of its constructor, by name, without the model: e.g. eps and steps.
    """

    name: str = "PGD"
    options: Mapping[str, Any] | OptionPairs = ()

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        library = require_package("torchattacks", "torchattacks")
        return self.make_attack(library, module, **dict(self.options))(images, labels)
