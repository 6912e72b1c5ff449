"""Diagnosis of a classifier: mistakes that make every later result meaningless."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn.functional import cross_entropy

from scoreag.classifiers.checks import DETERMINISM_RTOL, diagnose_gradient, relative_difference
from scoreag.classifiers.normalized import NormalizedClassifier, looks_like_probabilities
from scoreag.core.types import Images, Labels, Logits
from scoreag.io.images import to_float
from scoreag.stats.proportion import accuracy

NORMALIZATIONS = {  # name: mean, std, a number a channel
    "none": ((0.0,) * 3, (1.0,) * 3),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-10, the smaller std": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "[-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "[0, 255]": ((0.0,) * 3, (1 / 255,) * 3),
}
GRAY_NORMALIZATIONS = {  # of gray images, beside the first channel of those above
    "MNIST": ((0.1307,), (0.3081,)),
    "Fashion-MNIST": ((0.2860,), (0.3530,)),
}
STATUS_LABELS = {True: "fine ", False: "WRONG", None: "note "}
MIN_Z_SCORE = 3  # standard deviations
BATCH_TOLERANCE = 1e-3  # of the largest logit: the rounding of kernels for other batch sizes
CorrectMask: TypeAlias = Bool[Tensor, " batch"]  # which images are classified correctly


@dataclass(frozen=True)
class Finding:
    """The result of a check; ``ok`` is None where it is only a note."""

    check: str
    ok: bool | None
    message: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{STATUS_LABELS[self.ok]}  {self.check:<13}  {self.message}"


def diagnose(
    classifier: NormalizedClassifier,
    images: UInt8[Tensor, "batch channels height width"],
    labels: Labels | None,
    batch_size: int = 250,
    trained_on: tuple[int, int, int] | None = None,
) -> list[Finding]:
    """The results of all checks; the last ones are about accuracy.

    Args:
        trained_on: the image shape of its training, where that is known.
    """
    found = [_check_range(images), *_check_shape(tuple(images.shape[1:]), trained_on)]
    few = to_float(images[:8])
    try:
        logits = _predict_logits(classifier, few, len(few))
    except Exception as error:  # a third-party network may raise anything
        reason = " ".join(str(error).split())
        shape = " x ".join(map(str, images.shape[1:]))
        return [*found, Finding("size", False, f"it does not take {shape} images: {reason}")]
    found.append(_check_output(logits, images))
    if found[-1].ok is False:
        return found
    found += _check_behavior(classifier, few, logits)
    if labels is None:
        return [*found, Finding("accuracy", None, "the images have no labels")]
    args = to_float(images), labels, logits.shape[1], batch_size
    return [*found, *_check_accuracy(classifier, *args)]


def _check_range(images: Tensor) -> Finding:
    low, high = int(images.min()), int(images.max())
    if high <= 1:
        return Finding("range", False, f"pixels from {low} to {high} of 255: nearly black images")
    return Finding("range", True, f"pixels from {low} to {high} of 255, given to it in [0, 1]")


def _check_shape(actual: tuple[int, ...], trained_on: tuple[int, ...] | None) -> list[Finding]:
    if trained_on is None:
        return []
    has, wanted = (" x ".join(map(str, shape)) for shape in (actual, trained_on))
    if actual == trained_on:
        return [Finding("shape", True, f"{has}, as it was trained on")]
    channels, height, width = trained_on
    fix = f"write --size {height}" if height == width else f"write --size {height}x{width}"
    if actual[0] != channels:
        fix = f"it takes {channels} channels"
    return [Finding("shape", False, f"images are {has}, it was trained on {wanted}; {fix}")]


def _check_output(logits: Any, images: Tensor) -> Finding:
    shape = " x ".join(map(str, images.shape[1:]))
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return Finding("size", False, f"it returns {got}; expected a row of logits an image")
    if not torch.isfinite(logits).all():
        return Finding("size", False, "it returns NaN or infinity")
    return Finding("size", True, f"{shape} images to {logits.shape[1]} classes")


def _check_behavior(
    classifier: NormalizedClassifier, few: Images, logits: Logits
) -> Iterator[Finding]:
    """Logits, randomness, dependence on the batch, gradient and mode."""

    def finding(check: str, fault: str, fine: str) -> Finding:
        return Finding(check, not fault, fault or fine)

    is_softmax = looks_like_probabilities(logits)
    fault = "it returns probabilities; leave out its last softmax" if is_softmax else ""
    yield finding("logits", fault, f"from {float(logits.min()):.3g} to {float(logits.max()):.3g}")
    change, fault = relative_difference(_predict_logits(classifier, few, len(few)), logits), ""
    if change > DETERMINISM_RTOL:
        fault = (
            f"two calls differ by {change:.2g} of the largest logit; a randomized classifier needs "
            "an attack on its mean, and a dropout that is on needs .eval()"
        )
    yield finding("randomness", fault, "two calls give equal logits")
    change, fault = relative_difference(_predict_logits(classifier, few, 1), logits), ""
    if change > BATCH_TOLERANCE:
        fault = (
            f"an image alone has other logits than in a batch, by {change:.2g} of the largest; is "
            "a batch normalization in train mode?"
        )
    yield finding("batch", fault, "an image has the same logits alone and in a batch")
    fault = _gradient_fault(classifier, few[:4])
    yield finding("gradient", fault and f"it {fault}", "its logits have a gradient of the images")
    training = [type(part).__name__ for part in classifier.modules() if part.training]
    fault = f"{training[0]} is in train mode; call .eval()" if training else ""
    yield finding("mode", fault, "eval")


@torch.inference_mode(False)
def _gradient_fault(classifier: NormalizedClassifier, images: Images) -> str:
    leaf = images.to(_device_of(classifier, images)).clone().requires_grad_()
    with torch.enable_grad():
        return diagnose_gradient(classifier(leaf), leaf)


def _check_accuracy(
    classifier: NormalizedClassifier, images: Images, labels: Labels, classes: int, batch_size: int
) -> Iterator[Finding]:
    """Clean accuracy, and whether another normalization improves it."""
    highest = int(labels.max())
    if int(labels.min()) < 0 or highest >= classes:
        yield Finding("labels", False, f"up to {highest}, and the classifier has {classes} classes")
        return
    predictions = _predict_logits(classifier, images, batch_size).argmax(1)
    rate = accuracy(predictions, labels)
    yield Finding("accuracy", rate.interval[0] > 1 / classes, f"it is right on {rate}")
    yield _check_normalization(classifier, images, labels, predictions == labels, batch_size)


def _check_normalization(
    classifier: NormalizedClassifier,
    images: Images,
    labels: Labels,
    correct: CorrectMask,
    batch_size: int,
) -> Finding:
    """Whether the same network is significantly more accurate with a common normalization."""
    channels = images.shape[1]
    common = NORMALIZATIONS | (GRAY_NORMALIZATIONS if channels == 1 else {})
    found: dict[str, tuple[CorrectMask, float]] = {}
    for other, (means, stds) in common.items():
        mean, std = means[:channels], stds[:channels]
        if _nearly_equal(mean, classifier.mean) and _nearly_equal(std, classifier.std):
            continue
        tried = NormalizedClassifier(classifier.module, mean, std).eval()
        logits = _predict_logits(tried, images, batch_size)
        found[other] = logits.argmax(1) == labels, -float(cross_entropy(logits, labels))
    name = max(found, key=lambda other: (int(found[other][0].sum()), found[other][1]))
    best = found[name][0]
    if not _is_significantly_better(best, correct):
        return Finding("normalization", True, "no common one is clearly better")
    near = [
        f"{int(mask.sum())} with that of {other}"
        for other, (mask, _) in found.items()
        if other != name and not _is_significantly_better(best, mask)
    ]
    also = f" ({', '.join(near)}: which was it trained with?)" if near else ""
    counts = f"{int(best.sum())} instead of {int(correct.sum())}"
    mean, std = (tuple(round(n, 6) for n in values[:channels]) for values in common[name])
    return Finding(
        "normalization", False,
        f"with that of {name} it is right on {counts}{also}: write "
        f"mean={mean}, std={std} in its card, or in scoreag.wrap_classifier(module, mean, std)",
    )  # fmt: skip


def _is_significantly_better(one: CorrectMask, other: CorrectMask) -> bool:
    """Whether ``one`` is right on significantly more of the same images; McNemar (1947).

    Of the n images on which they differ, one is right on k; by chance k has the mean n/2 and the
    standard deviation ``n^(1/2) / 2``, of which it must be three above the mean.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained - lost > MIN_Z_SCORE * math.sqrt(gained + lost)


def _nearly_equal(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    channels = max(len(a), len(b))
    a, b = (v * channels if len(v) == 1 else v for v in (a, b))
    return len(a) == len(b) and all(
        abs(x - y) < 0.01 * abs(x) + 1e-9 for x, y in zip(a, b, strict=True)
    )


@torch.no_grad()
def _predict_logits(classifier: NormalizedClassifier, images: Images, batch_size: int) -> Any:
    """The logits of all images, on the CPU; what is no tensor is returned unchanged."""
    device = _device_of(classifier, images)
    parts = [classifier(part.to(device)) for part in images.split(batch_size)]
    return torch.cat(parts).cpu() if isinstance(parts[0], Tensor) else parts[0]


def _device_of(classifier: NormalizedClassifier, images: Images) -> torch.device:
    return next((t.device for t in classifier.state_dict().values()), images.device)
