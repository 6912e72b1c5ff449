"""Evasion attacks of the Adversarial Robustness Toolbox, by name; MIT; where it is installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
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

PACKAGE = "adversarial-robustness-toolbox"


@dataclass(frozen=True)
class ART(ExternalAttack):
    """An attack of ``art.attacks.evasion``, an image at a time and in float32, as ART works.

    Args:
        name: of its class there.
        options: of its constructor, by name, without the estimator: e.g. eps and max_iter.
    """

    name: str = "ProjectedGradientDescentPyTorch"
    options: Mapping[str, Any] | OptionPairs = ()

    def attack_one(
        self, module: ClassifierModule, images: Images, labels: Labels, seed: int
    ) -> Tensor:
        evasion = require_package("art.attacks.evasion", PACKAGE)
        factory = lookup_member(evasion, self.name, inspect.isclass)
        estimator = to_art_estimator(module, images)
        attack = instantiate(factory, f"art: {self.name}", estimator, **dict(self.options))
        one_hot = torch.nn.functional.one_hot(labels, estimator.nb_classes)
        arrays = images.float().cpu().numpy(), one_hot.float().cpu().numpy()
        return torch.as_tensor(attack.generate(x=arrays[0], y=arrays[1]))


def to_art_estimator(module: ClassifierModule, images: Images) -> Any:
    """ART's view of a classifier, which states the loss, the shape and the classes."""
    estimators = require_package("art.estimators.classification", PACKAGE)
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
