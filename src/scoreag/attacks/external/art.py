"""Evasion attacks of the Adversarial Robustness Toolbox, by name; MIT; where it is installed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.attacks.external import ExternalAttack, OptionPairs, require_package
from scoreag.core.types import Images, Labels

PACKAGE = "adversarial-robustness-toolbox"


@dataclass(frozen=True)
class ART(ExternalAttack):
    """An attack of ``art.attacks.evasion``, one image at a time and in float32, as ART works.

    Args:
        name: of its class there.
        options: of its constructor, by name, without the estimator: e.g. eps and max_iter.
    """

    name: str = "ProjectedGradientDescentPyTorch"
    options: Mapping[str, Any] | OptionPairs = ()

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        evasion = require_package("art.attacks.evasion", PACKAGE)
        estimators = require_package("art.estimators.classification", PACKAGE)
        with torch.no_grad():
            classes = module(images).shape[1]
        estimator = estimators.PyTorchClassifier(
            model=module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(images.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if images.is_cuda else "cpu",
        )
        attack = self.make_attack(evasion, estimator, **dict(self.options))
        one_hot = torch.nn.functional.one_hot(labels, classes)
        arrays = images.float().cpu().numpy(), one_hot.float().cpu().numpy()
        return torch.as_tensor(attack.generate(x=arrays[0], y=arrays[1]))
