"""Every attack of torchattacks, by its name there, e.g. PGD; Kim (2020), MIT; where installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.borrowed import AsModule, installed, made, one_by_one, part_of
from scoreag.search.door import door
from scoreag.search.options import Pairs, answering, check, pairs


@answering
@dataclass(frozen=True)
class Attack:
    """An attack of ``torchattacks``, an image at a time.

    Args:
        name: of its class there.
        options: of its constructor, by name, but for the model: e.g. eps and steps.
    """

    name: str = "PGD"
    options: Mapping[str, Any] | Pairs = ()

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "options", pairs(self.options))

    @door(guides=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1]."""
        return one_by_one(self._run, classifier, images, labels, noise)

    def _run(self, module: AsModule, images: Images, labels: Labels, seed: int) -> Tensor:
        library = installed("torchattacks", "torchattacks")
        attack = part_of(library, self.name, inspect.isclass)
        return made(attack, f"torchattacks: {self.name}", module, **dict(self.options))(
            images, labels
        )
