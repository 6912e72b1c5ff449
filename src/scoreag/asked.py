"""What was asked for, checked: a classifier, labels, wrong classes and image ids."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.core.frozen import Frozen
from scoreag.core.noise import generator
from scoreag.core.types import Classifier, Images, Labels
from scoreag.jobs import CLASS_STRIDE
from scoreag.models import check_classifier
from scoreag.models import classifier as as_classifier
from scoreag.tasks import SECOND

Wrong: TypeAlias = Tensor | Sequence[Any] | int | str | None


def checked_victim(classifier: Classifier, images: Images) -> tuple[Classifier, int]:
    """The classifier with its weights held constant, and how many classes it tells apart."""
    if isinstance(classifier, torch.nn.Module) and not isinstance(classifier, Frozen):
        classifier = as_classifier(classifier)
    return classifier, check_classifier(classifier, images)


def checked_labels(labels: Tensor | Sequence[Any] | int, count: int | None, classes: int) -> Labels:
    """Int64 labels within 0..classes-1, one an image."""
    found = torch.as_tensor(labels).reshape(-1)
    if not len(found):
        raise ValueError("no images: there are no labels")
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"labels are {found.dtype}; expected whole numbers 0..{classes - 1}")
    if count is not None and len(found) != count:
        raise ValueError(f"{len(found)} labels for {count} images; expected one an image")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= classes:
        raise ValueError(f"labels from {low} to {high}; expected 0..{classes - 1}")
    return found.long()


def checked_wrong(
    wrong: Wrong, labels: Labels, classes: int, seed: int, ids: Sequence[int]
) -> Labels | str | None:
    """One class an image, or "second", or None; never the label itself."""
    if wrong is None or (isinstance(wrong, str) and wrong == SECOND):
        return wrong
    if isinstance(wrong, str):
        if wrong != "random":
            raise ValueError(f"wrong is {wrong!r}; write a class number, second, random or none")
        return _random_other(labels, classes, seed, ids)
    aim = torch.as_tensor(wrong)
    aim = checked_labels(aim.expand(len(labels)) if aim.ndim == 0 else aim, len(labels), classes)
    same = (aim == labels.cpu()).nonzero().flatten()
    if len(same):
        first = int(same[0])
        raise ValueError(
            f"wrong equals the label {int(aim[first])} of image {first} (and of {len(same)} in "
            'all); write another class, or wrong="second"'
        )
    return aim.to(labels.device)


def _random_other(labels: Labels, classes: int, seed: int, ids: Sequence[int]) -> Labels:
    """Any class but the label, each as likely, as a function of the seed and the image alone."""
    sources = (generator(seed, int(i), "wrong") for i in ids)
    steps = torch.cat([torch.randint(1, classes, (1,), generator=source) for source in sources])
    return (labels + steps.to(labels)) % classes


def ids_by_class(labels: Labels) -> tuple[int, ...]:
    """label * stride + index within the class."""
    seen: dict[int, int] = {}
    ids = []
    for label in labels.tolist():
        ids.append(label * CLASS_STRIDE + seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
    return tuple(ids)


def checked_ids(ids: Sequence[int], count: int) -> tuple[int, ...]:
    """One id an image, no two alike: images with one id would share their noise."""
    if len(ids) != count or len(set(ids)) != count:
        raise ValueError(
            f"{len(set(ids))} different image ids for {count} images; expected {count}"
        )
    return tuple(int(i) for i in ids)
