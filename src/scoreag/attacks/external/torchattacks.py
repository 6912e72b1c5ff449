"""Every attack of torchattacks, by its name there, e.g. PGD; Kim (2020), MIT; where installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scoreag.attacks._common.adapters import (
    ClassifierModule,
    instantiate,
    lookup_member,
    require_package,
    run_per_image,
)
from scoreag.attacks._common.validation import (
    OptionPairs,
    options_to_pairs,
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels


@suggest_option_names
@dataclass(frozen=True)
class TorchAttacks:
    """An attack of ``torchattacks``, an image at a time.

    Args:
        name: of its class there.
        options: of its constructor, by name, but for the model: e.g. eps and steps.
    """

    name: str = "PGD"
    options: Mapping[str, Any] | OptionPairs = ()

    def __post_init__(self) -> None:
        validate_attack_options(self)
        object.__setattr__(self, "options", options_to_pairs(self.options))

    @validate_inputs(require_grad=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1]."""
        return run_per_image(self._run, classifier, images, labels, noise)

    def _run(self, module: ClassifierModule, images: Images, labels: Labels, seed: int) -> Tensor:
        library = require_package("torchattacks", "torchattacks")
        attack = lookup_member(library, self.name, inspect.isclass)
        return instantiate(attack, f"torchattacks: {self.name}", module, **dict(self.options))(
            images, labels
        )
