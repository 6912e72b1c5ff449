"""Evasion attacks of the Adversarial Robustness Toolbox, by name; MIT; where it is installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.search.borrowed import AsModule, installed, made, one_by_one, part_of
from scoreag.search.door import door
from scoreag.search.options import Pairs, answering, check, pairs

PACKAGE = "adversarial-robustness-toolbox"


@answering
@dataclass(frozen=True)
class Attack:
    """An attack of ``art.attacks.evasion``, an image at a time and in float32, as it works.

    Args:
        name: of its class there.
        options: of its constructor, by name, but for the estimator: e.g. eps and max_iter.
    """

    name: str = "ProjectedGradientDescentPyTorch"
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
        evasion = installed("art.attacks.evasion", PACKAGE)
        attack = part_of(evasion, self.name, inspect.isclass)
        estimator = as_estimator(module, images)
        found = made(attack, f"art: {self.name}", estimator, **dict(self.options))
        hot = torch.nn.functional.one_hot(labels, estimator.nb_classes)
        return torch.as_tensor(
            found.generate(x=images.float().cpu().numpy(), y=hot.float().cpu().numpy())
        )


def as_estimator(module: AsModule, images: Images) -> Any:
    """ART's view of a classifier: it wants to know the loss, the shape and the classes."""
    estimators = installed("art.estimators.classification", PACKAGE)
    with torch.no_grad():
        classes = module(images[:1]).shape[1]
    return estimators.PyTorchClassifier(
        model=module,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(images.shape[1:]),
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="gpu" if images.is_cuda else "cpu",
    )
