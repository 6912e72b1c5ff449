"""Every attack of Foolbox, by its name there, e.g. LinfPGD; Rauber et al. (2020), MIT.

Foolbox itself takes our classifiers and defenses as they are: modules from images to logits.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.attacks._attack import option
from scoreag.attacks._objective import top_k_wrong_classes
from scoreag.attacks.external import (
    ExternalAttack,
    OptionPairs,
    lookup_member,
    require_package,
)
from scoreag.core.types import Images, Labels

UNSUPPORTED = {  # need more than an image and its label
    "DatasetAttack": "other images, which would make a result depend on its batch",
    "BinarizationRefinementAttack": "the results of another attack",
}
TARGETED_ONLY = ("GenAttack",)

_load = partial(require_package, package="'scoreag[foolbox]'")


@dataclass(frozen=True)
class Foolbox(ExternalAttack):
    """An attack of ``foolbox.attacks``, one image at a time.

    Args:
        name: of its class there, or of its short form.
        eps: radius of the ball of the attack's own norm, to which its result is clipped; None lets
            an attack that minimizes a distance run to its end.
        options: of its constructor, by name; "distance", if it needs one, as l1, l2 or linf.
    """

    name: str = "LinfPGD"
    eps: float | None = option(8 / 255, above=0)
    options: Mapping[str, Any] | OptionPairs = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._build_attack()

    def _build_attack(self) -> Any:
        if self.name in UNSUPPORTED:
            raise ValueError(f"foolbox: {self.name} needs {UNSUPPORTED[self.name]}; take another")
        options = dict(self.options)
        if isinstance(name := options.get("distance"), str):
            options["distance"] = lookup_member(
                _load("foolbox.distances"), name, lambda d: hasattr(d, "clip_perturbation")
            )
        attack = self.make_attack(_load("foolbox.attacks"), **options)
        base = _load("foolbox.attacks.base")
        if self.eps is None and isinstance(attack, base.FixedEpsilonAttack):
            raise ValueError(f"foolbox: {self.name} needs an eps, e.g. 8/255")
        without_norm = (
            isinstance(attack, base.FlexibleDistanceMinimizationAttack)
            and getattr(attack, "_distance", None) is None
        )
        if self.eps is not None and without_norm:
            raise ValueError(
                f"foolbox: {self.name} has no norm of its own: write eps None, or give it an "
                "option distance, such as l2"
            )
        return attack

    def is_attack(self, candidate: Any) -> bool:
        base = _load("foolbox.attacks.base").Attack
        return (
            inspect.isclass(candidate)
            and issubclass(candidate, base)
            and not inspect.isabstract(candidate)
        )

    def attack_one(self, module: nn.Module, images: Images, labels: Labels, seed: int) -> Tensor:
        foolbox = _load("foolbox")
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device=images.device)
        criterion = foolbox.criteria.Misclassification(labels)
        if self.name in TARGETED_ONLY:
            with torch.no_grad():
                target = top_k_wrong_classes(module(images), labels, 1)[:, 0]
            criterion = foolbox.criteria.TargetedMisclassification(target)
        try:
            _, clipped, _ = self._build_attack()(model, images, criterion, epsilons=self.eps)
        except NotImplementedError as error:
            raise ValueError(f"foolbox: {self.name}: {error}; write eps None") from error
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            return images
        return clipped
