"""A classifier for other classes than its own: some of them, or superclasses of them.

A classifier has ``classes``, its names by number, where they are known; one of superclasses also
has ``groups``: the classes that each of its classes stands for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.classifiers.rejection import can_reject
from scoreag.core.class_names import (
    NO_GROUPS,
    Groups,
    lacks_class_names,
    match_classes,
)
from scoreag.core.types import Images, Logits
from scoreag.data.cifar import COARSE_CLASSES, COARSE_GROUPS
from scoreag.registry import no_such_class

PREFIX = "coarse:"  # coarse:NAME, a classifier of CIFAR-100's fine classes


class GroupedClasses(nn.Module):
    """``log sum exp`` of the logits of each group: the logits of superclasses.

    Their softmax is the sum of the probabilities of the group's classes, over those of all groups.

    Args:
        groups: the numbers of the classes of each group; a group of one is that class.
    """

    def __init__(self, classifier: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.classifier = classifier
        width = max(map(len, groups))
        numbers = [[*group, *[0] * (width - len(group))] for group in groups]
        padding = [[False] * len(group) + [True] * (width - len(group)) for group in groups]
        self.numbers: Tensor
        self.padding: Tensor
        self.register_buffer("numbers", torch.tensor(numbers), persistent=False)
        self.register_buffer("padding", torch.tensor(padding), persistent=False)

    def forward(self, images: Images) -> Float[Tensor, "batch groups"]:
        logits: Logits = self.classifier(images)
        numbers, padding = self.numbers.to(logits.device), self.padding.to(logits.device)
        members = logits[:, numbers.flatten()].unflatten(1, numbers.shape)
        return members.masked_fill(padding, -torch.inf).logsumexp(2)

    @property
    def features(self) -> Any:
        """The features of the classifier itself, if it has any."""
        return getattr(self.classifier, "features", None)


def known_names(classifier: Any) -> tuple[str, ...]:
    """The names of a classifier's classes by number; () where they are unknown."""
    classes = getattr(classifier, "classes", ())
    if not isinstance(classes, tuple | list) or not all(isinstance(n, str) for n in classes):
        return ()  # an attribute of another meaning
    return () if lacks_class_names(classes) else tuple(classes)


def known_groups(classifier: Any) -> Groups:
    """The classes that each of a classifier's superclasses stands for; none where it has none."""
    groups = getattr(classifier, "groups", NO_GROUPS)
    return groups if isinstance(groups, Mapping) else NO_GROUPS


def check_names(classifier: Any, count: int, what: str = "classifier") -> None:
    """Refuse names of another number of classes than the ``count`` outputs that are classes."""
    if (names := known_names(classifier)) and len(names) != count:
        raise ValueError(
            f"the {what} names {len(names)} classes ({', '.join(names[:3])}, ...) and tells "
            f"{count} apart; give a name for each output: wrap_classifier(..., classes=[...])"
        )


def select_classes(
    classifier: NormalizedClassifier, classes: Sequence[str], groups: Groups = NO_GROUPS
) -> NormalizedClassifier:
    """The classifier among ``classes`` only: the logits of others are left out.

    Args:
        groups: the classes of the classifier that a class stands for which it does not know.

    Raises:
        ValueError: it does not know a class, or its classes have no names.
    """
    own = known_names(classifier)
    if own == tuple(classes):
        return classifier
    if not own:
        raise ValueError(
            "the classes of the classifier have no names to choose from; name them: "
            "wrap_classifier(module, mean, std, classes=[...])"
        )
    if can_reject(classifier):
        raise ValueError(
            "a classifier that rejects images is one of all of its classes; put the detector "
            "before a classifier of some of them, or leave it out"
        )
    found = match_classes(own, classes, groups)
    for name, members in zip(classes, found, strict=True):
        if not members:
            raise ValueError(f"the classifier has {no_such_class(name, own)}")
    module = GroupedClasses(classifier, found).eval()
    return wrap_classifier(
        module, metadata={**classifier.metadata, "classes_of": list(own)},
        image_shape=classifier.image_shape, classes=classes,
        groups={name: groups[name] for name in classes if name in groups},
    )  # fmt: skip


def coarse_classifier(classifier: NormalizedClassifier, name: str) -> NormalizedClassifier:
    """A classifier of CIFAR-100's fine classes as one of its twenty superclasses."""
    try:
        return select_classes(classifier, COARSE_CLASSES, COARSE_GROUPS)
    except ValueError as error:
        raise ValueError(
            f"{name}: {error}; expected a classifier of CIFAR-100's fine classes"
        ) from error
