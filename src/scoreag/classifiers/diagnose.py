"""Examine a classifier: the mistakes that make every later figure meaningless."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn.functional import cross_entropy

from scoreag.classifiers import checks
from scoreag.classifiers.checks import DETERMINISM_RTOL, relative_difference
from scoreag.classifiers.normalized import NormalizedClassifier, looks_like_probabilities
from scoreag.core.types import Images, Labels, Logits
from scoreag.io.images import to_float
from scoreag.stats.proportion import Proportion, accuracy

NORMALIZATIONS = {  # name: mean, std, a number a channel
    "none": ((0.0,) * 3, (1.0,) * 3),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-10, the smaller std": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "[-1, 1]": ((0.5,) * 3, (0.5,) * 3),
    "[0, 255]": ((0.0,) * 3, (1 / 255,) * 3),
}
GRAY_NORMALIZATIONS = {  # the same of gray images, beside the first channel of those above
    "MNIST": ((0.1307,), (0.3081,)),
    "Fashion-MNIST": ((0.2860,), (0.3530,)),
}
STATUS_LABELS = {True: "fine ", False: "WRONG", None: "note "}
MIN_Z_SCORE = 3  # standard deviations
BATCH_TOLERANCE = (
    1e-3  # of the largest logit: what kernels may round differently from batch to batch
)
CorrectMask: TypeAlias = Bool[Tensor, " batch"]  # which images are judged rightly


@dataclass(frozen=True)
class Finding:
    """What a check says; ``fine`` is None where there is nothing to judge."""

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
    """All findings, in the order in which one would want to hear them.

    Args:
        trained_on: the shape of the images that it was trained on, where that is known.
    """
    found = [_check_range(images), *_check_shape(tuple(images.shape[1:]), trained_on)]
    few = to_float(images[:8])
    try:
        logits = _predict_logits(classifier, few, len(few))
    except Exception as error:  # whatever somebody else's network may raise
        reason = " ".join(str(error).split())
        shape = " x ".join(map(str, images.shape[1:]))
        return [*found, Finding("size", False, f"it does not take {shape} images: {reason}")]
    found.append(_check_output(logits, images))
    if found[-1].ok is False:
        return found
    checks: tuple[Callable[..., Finding], ...] = (
        _check_logits,
        _check_randomness,
        _check_batch,
        _check_gradient,
    )
    found += [check(classifier, few, logits) for check in checks]
    found.append(_check_mode(classifier))
    if labels is None:
        return [*found, Finding("accuracy", None, "the images have no labels")]
    return [
        *found,
        *_check_accuracy(classifier, to_float(images), labels, logits.shape[1], batch_size),
    ]


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
    height, width = trained_on[1:]
    size = f"{height}" if height == width else f"{height}x{width}"
    fix = (
        f"write --size {size}"
        if actual[0] == trained_on[0]
        else f"it takes {trained_on[0]} channels"
    )
    return [Finding("shape", False, f"images are {has}, it was trained on {wanted}; {fix}")]


def _check_output(logits: Any, images: Tensor) -> Finding:
    shape = " x ".join(map(str, images.shape[1:]))
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        return Finding("size", False, f"it returns {got}; expected a row of logits an image")
    if not torch.isfinite(logits).all():
        return Finding("size", False, "it returns NaN or infinity")
    return Finding("size", True, f"{shape} images to {logits.shape[1]} classes")


def _check_logits(classifier: NormalizedClassifier, few: Images, logits: Logits) -> Finding:
    if looks_like_probabilities(logits):
        return Finding("logits", False, "it returns probabilities; leave out its last softmax")
    low, high = float(logits.min()), float(logits.max())
    return Finding("logits", True, f"from {low:.3g} to {high:.3g}")


def _check_randomness(classifier: NormalizedClassifier, few: Images, logits: Logits) -> Finding:
    share = relative_difference(_predict_logits(classifier, few, len(few)), logits)
    if share > DETERMINISM_RTOL:
        return Finding(
            "randomness", False,
            f"two calls differ by {share:.2g} of the largest logit; a randomised classifier needs "
            "an attack on its mean, and a dropout that is on needs .eval()",
        )  # fmt: skip
    return Finding("randomness", True, "two calls say the same")


def _check_batch(classifier: NormalizedClassifier, few: Images, logits: Logits) -> Finding:
    share = relative_difference(_predict_logits(classifier, few, 1), logits)
    if share > BATCH_TOLERANCE:
        return Finding(
            "batch", False,
            f"an image alone is judged otherwise than in a batch, by {share:.2g} of the largest "
            "logit; is a batch normalisation in train mode?",
        )  # fmt: skip
    return Finding("batch", True, "an image is judged alike alone and in a batch")


@torch.inference_mode(False)
def _check_gradient(classifier: NormalizedClassifier, few: Images, logits: Logits) -> Finding:
    """Whether guidance and attacks have anything to follow."""
    leaf = few[:4].to(_device_of(classifier, few)).clone().requires_grad_()
    with torch.enable_grad():
        wrong = checks.diagnose_gradient(classifier(leaf), leaf)
    if wrong:
        return Finding("gradient", False, f"it {wrong}")
    return Finding("gradient", True, "its answers have a gradient of the images")


def _check_mode(classifier: NormalizedClassifier) -> Finding:
    training = [type(part).__name__ for part in classifier.modules() if part.training]
    if training:
        return Finding("mode", False, f"{training[0]} is in train mode; call .eval()")
    return Finding("mode", True, "eval")


def _check_accuracy(
    classifier: NormalizedClassifier, images: Images, labels: Labels, classes: int, batch_size: int
) -> Iterator[Finding]:
    """Clean accuracy, and whether it is what it could be."""
    highest = int(labels.max())
    if int(labels.min()) < 0 or highest >= classes:
        yield Finding("labels", False, f"up to {highest}, and the classifier has {classes} classes")
        return
    said = _predict(classifier, images, batch_size)
    rate = accuracy(said, labels)
    yield Finding("accuracy", _above_chance(rate, classes), f"it is right on {rate}")
    yield _check_normalization(classifier, images, labels, said == labels, batch_size)


def _above_chance(rate: Proportion, classes: int) -> bool:
    return rate.interval[0] > 1 / classes


def _check_normalization(
    classifier: NormalizedClassifier,
    images: Images,
    labels: Labels,
    correct: CorrectMask,
    batch_size: int,
) -> Finding:
    """The same network behind other normalisations; better is what no chance explains."""
    found: dict[str, tuple[CorrectMask, float]] = {}
    common = _common_normalizations(images.shape[1])
    for other, (mean, std) in common.items():
        if _nearly_equal(mean, classifier.mean) and _nearly_equal(std, classifier.std):
            continue
        tried = NormalizedClassifier(classifier.module, mean, std).eval()
        logits = _predict_logits(tried, images, batch_size)
        found[other] = logits.argmax(1) == labels, -float(cross_entropy(logits, labels))
    name = max(found, key=lambda other: (int(found[other][0].sum()), found[other][1]))
    best = found[name][0]
    if not _is_significantly_better(best, correct):
        return Finding("normalisation", True, "no common one does clearly better")
    near = [
        f"{int(hits.sum())} with that of {other}"
        for other, (hits, _) in found.items()
        if other != name and not _is_significantly_better(best, hits)
    ]
    also = f" ({', '.join(near)}: which was it trained with?)" if near else ""
    counts = f"{int(best.sum())} instead of {int(correct.sum())}"
    mean, std = common[name]
    return Finding(
        "normalisation", False,
        f"with that of {name} it is right on {counts}{also}: write "
        f"mean={_round_digits(mean)}, std={_round_digits(std)} in its card, or in "
        "scoreag.classifier(module, mean, std)",
    )  # fmt: skip


def _common_normalizations(channels: int) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The customary normalisations of images with so many channels, a number a channel."""
    known = NORMALIZATIONS | (GRAY_NORMALIZATIONS if channels == 1 else {})
    return {name: (mean[:channels], std[:channels]) for name, (mean, std) in known.items()}


def _is_significantly_better(one: CorrectMask, other: CorrectMask) -> bool:
    """Whether ``one`` is right on more of the same images than chance explains; McNemar (1947).

    Of the n images on which they differ, one is right on k; by chance k is n/2, its deviation
    ``n^(1/2) / 2``, and three of those are asked for.
    """
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    return gained - lost > MIN_Z_SCORE * math.sqrt(gained + lost)


def _nearly_equal(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    wide = max(len(a), len(b))
    a, b = (v * wide if len(v) == 1 else v for v in (a, b))
    return len(a) == len(b) and all(
        abs(x - y) < 0.01 * abs(x) + 1e-9 for x, y in zip(a, b, strict=True)
    )


def _round_digits(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(number, 6) for number in numbers)


def _predict(classifier: NormalizedClassifier, images: Images, batch_size: int) -> Labels:
    return _predict_logits(classifier, images, batch_size).argmax(1)


@torch.no_grad()
def _predict_logits(classifier: NormalizedClassifier, images: Images, batch_size: int) -> Any:
    """The answers to ``batch`` images at a time; what is no tensor is returned as it comes."""
    place = _device_of(classifier, images)
    parts = [
        classifier(images[i : i + batch_size].to(place)) for i in range(0, len(images), batch_size)
    ]
    return torch.cat(parts).cpu() if isinstance(parts[0], Tensor) else parts[0]


def _device_of(classifier: NormalizedClassifier, images: Images) -> torch.device:
    return next((t.device for t in classifier.state_dict().values()), images.device)
