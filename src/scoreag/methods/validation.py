"""The inputs of a task, checked: prior, classifier, labels, targets, image ids and seed."""

from collections import Counter
from collections.abc import Sequence
from operator import index
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scoreag.classifiers.checks import check_classifier
from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.methods.guided_sampling import RUNNER_UP
from scoreag.registry import describe_value, did_you_mean

IDS_PER_CLASS = 1_000_000  # image ids of a synthesis: label * IDS_PER_CLASS + index in the class
Target: TypeAlias = Tensor | npt.NDArray[Any] | Sequence[Any] | int | str | None


def check_callable(classifier: Any) -> None:
    """Refuse the name of a classifier, or anything else that cannot be called with images."""
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
    """The classifier with its weights held constant, and its number of classes."""
    check_callable(classifier)
    is_defense = hasattr(classifier, "forward_unclamped")
    if isinstance(classifier, torch.nn.Module) and not (
        is_defense or isinstance(classifier, NormalizedClassifier)
    ):
        classifier = wrap_classifier(classifier)
    return classifier, check_classifier(classifier, images, require_grad)


def validate_labels(labels: Any, count: int | None, classes: int, name: str = "labels") -> Labels:
    """Int64 classes within 0..classes-1, one for each of ``count`` images."""
    if labels is None:
        raise ValueError(f"the images have no {name}; give a class number an image")
    try:
        values = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} are {describe_value(labels)}; expected class numbers") from error
    values = values.reshape(1) if values.ndim == 0 else values
    if values.ndim != 1:
        raise ValueError(
            f"{name} have the shape {tuple(values.shape)}; expected one class an image"
        )
    if not len(values):
        raise ValueError("no images: there are no labels")
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(f"{name} are {values.dtype}; expected whole numbers 0..{classes - 1}")
    if count is not None and len(values) != count:
        raise ValueError(f"{len(values)} {name} for {count} images; expected one an image")
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        raise ValueError(f"{name} from {low} to {high}; expected 0..{classes - 1}")
    return values.long()


def validate_target(
    target: Target,
    labels: Labels,
    classes: int,
    seed: int,
    ids: Sequence[int],
    class_names: Sequence[str] = (),
) -> Labels | str | None:
    """One class an image, never its label; or ``runner_up``, or None."""
    if target is None or (isinstance(target, str) and target in (RUNNER_UP, "none")):
        return None if target == "none" else target
    if isinstance(target, str) and target == "random":
        return _random_targets(labels, classes, seed, ids)
    if isinstance(target, str) and target in class_names:
        target = class_names.index(target)
    if isinstance(target, str):
        words = [RUNNER_UP, "random", "none", *class_names]
        raise ValueError(f"target is {target!r}, which is no class; {did_you_mean(target, words)}")
    same_for_all = not isinstance(target, Tensor | np.ndarray | Sequence) or np.ndim(target) == 0
    count = None if same_for_all else len(labels)
    targets = validate_labels(target, count, classes, "target classes")
    targets = targets.to(labels.device).expand(len(labels))
    equal = (targets == labels).nonzero().flatten()
    if len(equal):
        first = int(equal[0])
        raise ValueError(
            f"target equals the label {int(targets[first])} of image {first} (and of {len(equal)} "
            'in all); write another class, or target="runner_up"'
        )
    return targets


def _random_targets(labels: Labels, classes: int, seed: int, ids: Sequence[int]) -> Labels:
    """Any class but the label, uniformly: a function of the seed and the image alone."""
    like = torch.zeros(len(ids), dtype=torch.float64)
    steps = 1 + Noise(seed, ids).fold_in("wrong").uniform_like(like) * (classes - 1)
    return (labels + steps.to(labels)) % classes


def default_image_ids(labels: Labels) -> tuple[int, ...]:
    """label * IDS_PER_CLASS + index within the class."""
    counts: Counter[int] = Counter()
    ids = []
    for label in labels.tolist():
        ids.append(label * IDS_PER_CLASS + counts[label])
        counts[label] += 1
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
        value = -1 if isinstance(seed, bool) else index(seed)
    except TypeError:
        value = -1
    if value < 0:
        raise ValueError(f"seed is {describe_value(seed)}; expected a whole number, 0 or more")
    return value


def validate_class_count(prior: Prior, count: int) -> int:
    """The number of classes of the classifier, which must be those of the score model."""
    if prior.classes and len(prior.classes) != count:
        advice = getattr(getattr(prior.model, "network", None), "null_label_hint", "")
        raise ValueError(
            f"the classifier tells {count} classes apart, and the score model knows "
            f"{len(prior.classes)}; give one that was trained on the same classes"
            + (f". {advice}" if advice else "")
        )
    return count


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
