"""Judges: classifiers that say whether an image still shows its class, and may not be attacked."""

import hashlib
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers.loading import check_classifier
from scoreag.classifiers.loading import wrap_classifier as as_classifier
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.core.types import Classifier, Images
from scoreag.stats.proportion import Proportion

MIN_JUDGE_ACCURACY = 0.7  # what the accuracy of a judge should surely be above
CLEAN_IMAGES = "untouched images"


def validate_judge(
    judge: Any, classifier: Classifier, images: Images, class_count: int
) -> Classifier | None:
    """The judge with its weights held constant; None where there is none.

    Args:
        images: one image or more, of the kind that it will be asked about.
        class_count: how many the classifier tells apart; the judge must tell as many.

    Raises:
        ValueError: it is the classifier that is attacked, or cannot judge its images.
    """
    if judge is None:
        return None
    if not callable(judge):  # such as its name
        raise ValueError(
            f"the judge is {judge!r:.60}; expected a module: write scoreag.load_classifier(...)"
        )
    if hasattr(judge, "forward_unclamped"):
        raise ValueError(
            "the judge is a defense, which answers otherwise each time; give a plain classifier"
        )
    if is_same_network(judge, classifier, images):
        raise ValueError(
            "the judge is the classifier that is attacked (the same weights), so it cannot tell "
            "whether an image still shows its class; give another judge, trained apart, or none"
        )
    if isinstance(judge, nn.Module) and not isinstance(judge, NormalizedClassifier):
        judge = as_classifier(judge)
    try:
        count = check_classifier(judge, images, require_grad=False)
    except ValueError as error:
        raise ValueError(f"the judge cannot be asked: {error}; give another judge") from error
    if count != class_count:
        raise ValueError(
            f"the judge tells {count} classes apart, and the classifier {class_count}; give a "
            "judge that was trained on the same classes"
        )
    return judge


def is_same_network(a: Any, b: Any, images: Images | None = None) -> bool:
    """Whether two classifiers are one, whatever stands around it: a defense, a normalization.

    They are where one is a part of the other, or all weights of one are among the other's.
    Functions have no weights that can be seen: they are one if they say the same of ``images``.
    """
    a, b = _unwrap(a), _unwrap(b)
    if a is b:
        return True
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        parts = any(one is b for one in a.modules()) or any(one is a for one in b.modules())
        return parts or _is_contained(a, b) or _is_contained(b, a)
    return images is not None and _same_outputs(a, b, images)


def describe_weak_judge(name: str, accuracy: Proportion, class_count: int = 0) -> str:
    """Why the word of a judge that is so often right is worth little; "" where it is not so."""
    low = accuracy.interval[0]
    if low >= MIN_JUDGE_ACCURACY:
        return ""
    if not accuracy.total:
        return f"how often the judge {name} is right on untouched images is not known"
    told, better = f"the judge {name} is right on {accuracy}", "a better judge"
    if class_count and low <= 1 / class_count:
        told += f", which is not clearly better than chance (1 of {class_count})"
    elif accuracy.value >= MIN_JUDGE_ACCURACY:
        told += f", too few to show that it is right on {100 * MIN_JUDGE_ACCURACY:.0f} % or more"
        better = "more images"
    return f"{told}: what it says of changed images means little; give {better}"


def _unwrap(classifier: Any) -> Any:
    """The network itself, without the wrappers around it that have no weights of their own."""
    while True:
        inner = [getattr(classifier, "classifier", None)]  # what a defense stands before
        if not hasattr(classifier, "forward_unclamped"):
            inner = list(classifier.children()) if isinstance(classifier, nn.Module) else []
            if inner and [*classifier.parameters(recurse=False)]:
                return classifier
        if len(inner) != 1 or inner[0] is None:
            return classifier
        classifier = inner[0]


def _is_contained(a: nn.Module, b: nn.Module) -> bool:
    """Whether ``a`` has weights, and ``b`` has all of them."""
    trained = _weight_digests(list(a.parameters()) or list(a.buffers()))
    return bool(trained) and not trained - _weight_digests([*b.parameters(), *b.buffers()])


def _weight_digests(tensors: list[Tensor]) -> "Counter[str]":
    """Of each that is no constant, in half precision: a copy in half the space is the same."""
    found: Counter[str] = Counter()
    for one in tensors:
        values = one.detach().half().cpu().contiguous()
        if values.numel() > 1 and bool((values != values.flatten()[0]).any()):
            data = repr(tuple(values.shape)).encode() + values.numpy().tobytes()
            found[hashlib.sha256(data).hexdigest()] += 1
    return found


@torch.no_grad()
def _same_outputs(a: Any, b: Any, images: Images) -> bool:
    source = torch.Generator().manual_seed(0)
    shown = torch.rand((2, *images.shape[1:]), generator=source).to(images)
    try:
        one, other = a(shown), b(shown)
    except Exception:  # whatever somebody else's function may raise; it is told where it is asked
        return False
    return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
