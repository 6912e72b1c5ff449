"""A score model for the classes of a classifier, which it may count otherwise: a map by name."""

from collections.abc import Sequence
from dataclasses import replace

from scoreag.core.class_names import (
    NO_GROUPS,
    Groups,
    lacks_class_names,
    match_classes,
)
from scoreag.diffusion.parameterizations import null_label
from scoreag.diffusion.prior import Prior
from scoreag.registry import no_such_class


def fit_classes(prior: Prior, classes: Sequence[str], groups: Groups = NO_GROUPS) -> Prior:
    """The prior whose labels are those of ``classes``; unchanged where one side has no names.

    A class that the model does not know has the null label, where there is one.

    Args:
        groups: the classes of the model that a class stands for which the model does not know.

    Raises:
        ValueError: no class has the same name on both sides, or one is unknown to a model without
            a null label.
    """
    named = not (lacks_class_names(classes) or lacks_class_names(prior.classes))
    if not named or prior.classes == tuple(classes):
        return prior
    choices = match_classes(prior.classes, classes, groups)
    unknown = [name for name, found in zip(classes, choices, strict=True) if not found]
    if len(unknown) == len(classes) or (unknown and null_label(prior.model) is None):
        raise ValueError(
            f"the classifier has the class {unknown[0]!r}, and the score model "
            f"{no_such_class(unknown[0], prior.classes)}"
        )
    if prior.label_choices:  # these numbers are already those of other classes
        choices = [
            tuple(label for number in found for label in prior.label_choices[number])
            for found in choices
        ]
    return replace(
        prior, classes=tuple(classes), label_choices=tuple(choices),
        model_classes=prior.model_classes or prior.classes,
    )  # fmt: skip


def known_classes(prior: Prior) -> list[int]:
    """The classes that the model can be asked for, by number."""
    if not prior.label_choices:
        return list(range(len(prior.classes)))
    return [number for number, found in enumerate(prior.label_choices) if found]
