"""Evasion attacks of the Adversarial Robustness Toolbox, by name; MIT; where it is installed."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
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

PACKAGE = "adversarial-robustness-toolbox"


@suggest_option_names
@dataclass(frozen=True)
class ART:
    """An attack of ``art.attacks.evasion``, an image at a time and in float32, as it works.

    Args:
        name: of its class there.
        options: of its constructor, by name, but for the estimator: e.g. eps and max_iter.
    """

    name: str = "ProjectedGradientDescentPyTorch"
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
        evasion = require_package("art.attacks.evasion", PACKAGE)
        attack = lookup_member(evasion, self.name, inspect.isclass)
        estimator = to_art_estimator(module, images)
        found = instantiate(attack, f"art: {self.name}", estimator, **dict(self.options))
        hot = torch.nn.functional.one_hot(labels, estimator.nb_classes)
        return torch.as_tensor(
            found.generate(x=images.float().cpu().numpy(), y=hot.float().cpu().numpy())
        )


def to_art_estimator(module: ClassifierModule, images: Images) -> Any:
    """ART's view of a classifier: it wants to know the loss, the shape and the classes."""
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
