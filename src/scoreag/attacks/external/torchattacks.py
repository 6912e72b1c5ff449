"""Every attack of torchattacks, by its name there, e.g. PGD; Kim (2020), MIT; where installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scoreag.attacks._common.adapters import (
    ClassifierModule,
    ExternalAttack,
    OptionPairs,
    instantiate,
    lookup_member,
    require_package,
)
from scoreag.core.types import Images, Labels


@dataclass(frozen=True)
class TorchAttacks(ExternalAttack):
    """An attack of ``torchattacks``, an image at a time.

    Args:
        name: of its class there.
        options: of its constructor, by name, without the model: e.g. eps and steps.
    """

    name: str = "PGD"
    options: Mapping[str, Any] | OptionPairs = ()

    def attack_one(
        self, module: ClassifierModule, images: Images, labels: Labels, seed: int
    ) -> Tensor:
        factory = lookup_member(
            require_package("torchattacks", "torchattacks"), self.name, inspect.isclass
        )
        attack = instantiate(factory, f"torchattacks: {self.name}", module, **dict(self.options))
        return attack(images, labels)
