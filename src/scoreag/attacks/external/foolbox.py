"""Every attack of Foolbox, by its name there, e.g. LinfPGD; Rauber et al. (2020), MIT.

Foolbox itself takes our classifiers and defenses as they are: modules from images to logits.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
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
from scoreag.attacks._common.attack import option
from scoreag.attacks._common.losses import top_k_wrong_classes
from scoreag.core.types import Images, Labels

UNSUPPORTED = {  # need more than an image and its label
    "DatasetAttack": "other images, which would make a result depend on its batch",
    "BinarizationRefinementAttack": "the results of another attack",
}
TARGETED_ONLY = ("GenAttack",)

_load = partial(require_package, package="'scoreag[foolbox]'")


@dataclass(frozen=True)
class Foolbox(ExternalAttack):
    """An attack of ``foolbox.attacks``, an image at a time.

    Args:
        name: of its class there, or of its short form.
        eps: radius of the ball of the attack's own norm, which its result is clipped to; None lets
            an attack that minimizes a distance run to its end.
        options: of its constructor, by name; "distance", where it wants one, as l1, l2 or linf.
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
        factory = lookup_member(_load("foolbox.attacks"), self.name, _is_attack_class)
        options = dict(self.options)
        if isinstance(word := options.get("distance"), str):
            distances = _load("foolbox.distances")
            options["distance"] = lookup_member(
                distances, word, lambda d: hasattr(d, "clip_perturbation")
            )
        attack = instantiate(factory, f"foolbox: {self.name}", **options)
        self._validate_eps(attack)
        return attack

    def _validate_eps(self, attack: Any) -> None:
        base = _load("foolbox.attacks.base")
        if self.eps is None and isinstance(attack, base.FixedEpsilonAttack):
            raise ValueError(f"foolbox: {self.name} needs an eps, e.g. 8/255")
        free = isinstance(attack, base.FlexibleDistanceMinimizationAttack)
        if self.eps is not None and free and getattr(attack, "_distance", None) is None:
            raise ValueError(
                f"foolbox: {self.name} has no norm of its own: write eps None, or give it an "
                "option distance, such as l2"
            )

    def attack_one(
        self, module: ClassifierModule, images: Images, labels: Labels, seed: int
    ) -> Tensor:
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


def _is_attack_class(candidate: Any) -> bool:
    base = _load("foolbox.attacks.base").Attack
    return (
        inspect.isclass(candidate)
        and issubclass(candidate, base)
        and not inspect.isabstract(candidate)
    )
