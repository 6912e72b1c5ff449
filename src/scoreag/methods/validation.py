"""What was asked for, checked: a classifier, labels, wrong classes and image ids."""

from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoreag.classifiers.checks import check_classifier
from scoreag.classifiers.loading import wrap_classifier as as_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.methods.sampling import RUNNER_UP
from scoreag.methods.task import IDS_PER_CLASS
from scoreag.registry import describe_value

Target: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[Any] | int | str | None


def check_callable(classifier: Any) -> None:
    """Refuse the name of a classifier, or anything else that cannot be shown an image."""
    if isinstance(classifier, Prior):
        raise ValueError(
            "the classifier is a Prior, a score model; tasks take (prior, classifier, ...), and "
            "defend takes (classifier, prior, ...)"
        )
    if not callable(classifier) or isinstance(classifier, type):
        raise ValueError(
            f"the classifier is {describe_value(classifier)}; expected a module: "
            "write scoreag.load_classifier(...) or scoreag.wrap_classifier(module, mean, std)"
        )


def validate_classifier(
    classifier: Any, images: Images, require_grad: bool = True
) -> tuple[Classifier, int]:
    """The classifier with its weights held constant, and how many classes it tells apart."""
    check_callable(classifier)
    known = isinstance(classifier, NormalizedClassifier) or hasattr(
        classifier, "forward_unclamped"
    )  # a defense
    if isinstance(classifier, torch.nn.Module) and not known:
        classifier = as_classifier(classifier)
    return classifier, check_classifier(classifier, images, require_grad)


def validate_labels(
    labels: Any,
    count: int | None,
    classes: int,
    name: str = "labels",
) -> Labels:
    """Int64 classes within 0..classes-1, one an image."""
    if labels is None:
        raise ValueError(f"the images have no {name}; give a class number an image")
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} are {describe_value(labels)}; expected class numbers") from error
    found = found.reshape(1) if found.ndim == 0 else found
    if found.ndim != 1:
        raise ValueError(f"{name} have the shape {tuple(found.shape)}; expected one class an image")
    if not len(found):
        raise ValueError("no images: there are no labels")
    if found.is_floating_point() or found.dtype == torch.bool:
        raise ValueError(f"{name} are {found.dtype}; expected whole numbers 0..{classes - 1}")
    if count is not None and len(found) != count:
        raise ValueError(f"{len(found)} {name} for {count} images; expected one an image")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= classes:
        raise ValueError(f"{name} from {low} to {high}; expected 0..{classes - 1}")
    return found.long()


def validate_target(
    target: Target, labels: Labels, classes: int, seed: int, ids: Sequence[int]
) -> Labels | str | None:
    """One class an image, or "runner_up", or None; never the label itself."""
    if target is None or (isinstance(target, str) and target in (RUNNER_UP, "none")):
        return None if target == "none" else target
    if isinstance(target, str):
        if target != "random":
            raise ValueError(f"target is {target!r}; write a class number, runner_up, random or none")
        return _random_targets(labels, classes, seed, ids)
    same_for_all = not isinstance(target, Tensor | np.ndarray | Sequence) or np.ndim(target) == 0
    aims = validate_labels(target, None if same_for_all else len(labels), classes, "target classes")
    aims = aims.to(labels.device).expand(len(labels))
    equal = (aims == labels).nonzero().flatten()
    if len(equal):
        first = int(equal[0])
        raise ValueError(
            f"target equals the label {int(aims[first])} of image {first} (and of {len(equal)} in "
            'all); write another class, or target="runner_up"'
        )
    return aims


def _random_targets(labels: Labels, classes: int, seed: int, ids: Sequence[int]) -> Labels:
    """Any class but the label, each as likely, as a function of the seed and the image alone."""
    like = torch.zeros(len(ids), dtype=torch.float64)
    steps = 1 + Noise(seed, ids).fold_in("wrong").uniform_like(like) * (classes - 1)
    return (labels + steps.to(labels)) % classes


def default_image_ids(labels: Labels) -> tuple[int, ...]:
    """label * stride + index within the class."""
    seen: dict[int, int] = {}
    ids = []
    for label in labels.tolist():
        ids.append(label * IDS_PER_CLASS + seen.get(label, 0))
        seen[label] = seen.get(label, 0) + 1
    return tuple(ids)


def validate_image_ids(
    image_ids: Sequence[int] | Tensor | None, default: Sequence[int]
) -> tuple[int, ...]:
    """One id an image, no two alike: images with one id would share their noise."""
    if image_ids is None:
        return tuple(default)
    try:
        ids = tuple(index(i) for i in image_ids)
    except TypeError as error:
        raise ValueError(
            f"image ids are {describe_value(image_ids)}; expected whole numbers"
        ) from error
    if len(ids) != len(default) or len(set(ids)) != len(ids):
        raise ValueError(
            f"{len(set(ids))} different image ids for {len(default)} images; "
            f"expected {len(default)}"
        )
    return ids


def validate_seed(seed: int) -> int:
    """A whole number, 0 or more."""
    try:
        found = index(seed)
    except TypeError as error:
        raise ValueError(
            f"seed is {describe_value(seed)}; expected a whole number, 0 or more"
        ) from error
    if found < 0 or isinstance(seed, bool):
        raise ValueError(f"seed is {describe_value(seed)}; expected a whole number, 0 or more")
    return found


def validate_class_count(prior: Prior, count: int) -> int:
    """The number of classes that both know; a class must mean the same to both."""
    if prior.classes and len(prior.classes) != count:
        raise ValueError(
            f"the classifier tells {count} classes apart, and the score model knows "
            f"{len(prior.classes)}; give one that was trained on the same classes{_label_advice(prior)}"
        )
    return count


def _label_advice(prior: Prior) -> str:
    """What a network says of its labels, which may be counted in two ways."""
    said = getattr(getattr(prior.model, "network", None), "null_label_hint", "")
    return f". {said}" if said else ""


def validate_prior(prior: Prior) -> Prior:
    """A prior, and not the name of one."""
    if not isinstance(prior, Prior):
        swapped = isinstance(prior, torch.nn.Module)
        order = ", and the classifier in the classifier's place" if swapped else ""
        raise ValueError(
            f"the prior is {describe_value(prior)}; write scoreag.load_prior(...){order}"
        )
    return prior


def validate_flag(name: str, value: Any) -> bool:
    """True or False, and not something that might be either."""
    if not isinstance(value, bool | int | np.bool_):
        raise ValueError(f"{name} is {describe_value(value)}; expected True or False")
    return bool(value)
