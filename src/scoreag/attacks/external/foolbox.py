"""Every attack of Foolbox, by its name there, e.g. LinfPGD; Rauber et al. (2020), MIT.

Foolbox takes our classifiers and defences as they are: they are modules from images to logits.
"""

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
from scoreag.attacks._common.losses import top_k_wrong_classes
from scoreag.attacks._common.validation import (
    OptionPairs,
    options_to_pairs,
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

UNSUPPORTED = {  # than an image and its label
    "DatasetAttack": "other images, which would make a result depend on its batch",
    "BinarizationRefinementAttack": "the results of another attack",
}
TARGETED_ONLY = ("GenAttack",)  # aim at a class, and know no other way


@suggest_option_names
@dataclass(frozen=True)
class Foolbox:
    """An attack of ``foolbox.attacks``, an image at a time.

    Args:
        name: of its class there, or of its short form.
        epsilon: radius of the ball of the attack's own norm, which its result is clipped to; None
            lets an attack that minimises a distance run to its end.
        options: of its constructor, by name; "distance", where it wants one, as l1, l2 or linf.
    """

    name: str = "LinfPGD"
    eps: float | None = 8 / 255
    options: Mapping[str, Any] | OptionPairs = ()

    def __post_init__(self) -> None:
        validate_attack_options(self, positive=("eps",))
        object.__setattr__(self, "options", options_to_pairs(self.options))
        self._build_attack()

    @validate_inputs(require_grad=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1]; where the attack finds no point to begin from, the one given."""
        return run_per_image(self._run, classifier, images, labels, noise)

    def _build_attack(self) -> Any:
        if self.name in UNSUPPORTED:
            raise ValueError(f"foolbox: {self.name} needs {UNSUPPORTED[self.name]}; take another")
        attack = lookup_member(
            require_package("foolbox.attacks", "foolbox"), self.name, _is_attack_class
        )
        options = dict(self.options)
        if isinstance(word := options.get("distance"), str):
            distances = require_package("foolbox.distances", "foolbox")
            options["distance"] = lookup_member(
                distances, word, lambda d: hasattr(d, "clip_perturbation")
            )
        found = instantiate(attack, f"foolbox: {self.name}", **options)
        self._validate_eps(found)
        return found

    def _validate_eps(self, attack: Any) -> None:
        base = require_package("foolbox.attacks.base", "foolbox")
        if self.eps is None and isinstance(attack, base.FixedEpsilonAttack):
            raise ValueError(f"foolbox: {self.name} needs an eps, e.g. 8/255")
        free = isinstance(attack, base.FlexibleDistanceMinimizationAttack)
        if self.eps is not None and free and getattr(attack, "_distance", None) is None:
            raise ValueError(
                f"foolbox: {self.name} has no norm of its own: write eps None, or give it an "
                "option distance, such as l2"
            )

    def _run(self, module: ClassifierModule, images: Images, labels: Labels, seed: int) -> Tensor:
        foolbox = require_package("foolbox", "foolbox")
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
    base = require_package("foolbox.attacks.base", "foolbox").Attack
    return (
        inspect.isclass(candidate)
        and issubclass(candidate, base)
        and not inspect.isabstract(candidate)
    )
