"""Every attack of Foolbox, by its name there, e.g. LinfPGD; Rauber et al. (2020), MIT.

Foolbox takes our classifiers and defences as they are: they are modules from images to logits.
"""

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
from scoreag.search.losses import likeliest_others
from scoreag.search.options import Pairs, answering, check, pairs

NEEDS_MORE = {  # than an image and its label
    "DatasetAttack": "other images, which would make a result depend on its batch",
    "BinarizationRefinementAttack": "the results of another attack",
}
TARGETED = ("GenAttack",)  # aim at a class, and know no other way


@answering
@dataclass(frozen=True)
class Attack:
    """An attack of ``foolbox.attacks``, an image at a time.

    Args:
        name: of its class there, or of its short form.
        epsilon: radius of the ball of the attack's own norm, which its result is clipped to; None
            lets an attack that minimises a distance run to its end.
        options: of its constructor, by name; "distance", where it wants one, as l1, l2 or linf.
    """

    name: str = "LinfPGD"
    epsilon: float | None = 8 / 255
    options: Mapping[str, Any] | Pairs = ()

    def __post_init__(self) -> None:
        check(self, above_zero=("epsilon",))
        object.__setattr__(self, "options", pairs(self.options))
        self._made()

    @door(guides=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1]; where the attack finds no point to begin from, the one given."""
        return one_by_one(self._run, classifier, images, labels, noise)

    def _made(self) -> Any:
        if self.name in NEEDS_MORE:
            raise ValueError(f"foolbox: {self.name} needs {NEEDS_MORE[self.name]}; take another")
        attack = part_of(installed("foolbox.attacks", "foolbox"), self.name, _concrete)
        options = dict(self.options)
        if isinstance(word := options.get("distance"), str):
            distances = installed("foolbox.distances", "foolbox")
            options["distance"] = part_of(
                distances, word, lambda d: hasattr(d, "clip_perturbation")
            )
        found = made(attack, f"foolbox: {self.name}", **options)
        self._check_radius(found)
        return found

    def _check_radius(self, found: Any) -> None:
        base = installed("foolbox.attacks.base", "foolbox")
        if self.epsilon is None and isinstance(found, base.FixedEpsilonAttack):
            raise ValueError(f"foolbox: {self.name} needs an epsilon, e.g. 8/255")
        free = isinstance(found, base.FlexibleDistanceMinimizationAttack)
        if self.epsilon is not None and free and getattr(found, "_distance", None) is None:
            raise ValueError(
                f"foolbox: {self.name} has no norm of its own: write epsilon None, or give it an "
                "option distance, such as l2"
            )

    def _run(self, module: AsModule, images: Images, labels: Labels, seed: int) -> Tensor:
        foolbox = installed("foolbox", "foolbox")
        model = foolbox.PyTorchModel(module, bounds=(0, 1), device=images.device)
        criterion = foolbox.criteria.Misclassification(labels)
        if self.name in TARGETED:
            with torch.no_grad():
                target = likeliest_others(module(images), labels, 1)[:, 0]
            criterion = foolbox.criteria.TargetedMisclassification(target)
        try:
            _, clipped, _ = self._made()(model, images, criterion, epsilons=self.epsilon)
        except NotImplementedError as error:
            raise ValueError(f"foolbox: {self.name}: {error}; write epsilon None") from error
        except ValueError as error:
            if "init_attack failed" not in str(error):
                raise
            return images
        return clipped


def _concrete(thing: Any) -> bool:
    base = installed("foolbox.attacks.base", "foolbox").Attack
    return inspect.isclass(thing) and issubclass(thing, base) and not inspect.isabstract(thing)
