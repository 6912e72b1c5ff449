"""What a classifier must be: logits in eval mode, a gradient of its images, no random answers.

And what its reference classifier (the judge) must be, by which images keep their class: another
network, for the same classes.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers.class_groups import check_names, known_groups, known_names, select_classes
from scoreag.classifiers.normalized import (
    NormalizedClassifier,
    looks_like_probabilities,
    wrap_classifier,
)
from scoreag.classifiers.rejection import can_reject
from scoreag.core.batching import reset_draws, select_rows
from scoreag.core.class_names import Groups, lacks_class_names
from scoreag.core.types import Classifier, Images, Logits
from scoreag.stats.proportion import Proportion

DETERMINISM_RTOL = 1e-5  # of the largest logit: the order of additions in a kernel has less effect
NO_GRADIENT = (
    "passes no gradient on to its images; take torch.no_grad, detach and rounding out of its "
    "forward"
)
REENTRANT_CHECKPOINT = (
    "uses torch.utils.checkpoint with use_reentrant=True, through which no gradient of its images "
    "can be taken; write use_reentrant=False, or turn checkpointing off "
    "(timm: set_grad_checkpointing(False), transformers: gradient_checkpointing_disable())"
)
ZERO_GRADIENT = (
    "has a gradient of zero everywhere (it rounds its input, or its logits are saturated), so "
    "neither guidance nor an attack along the gradient can find anything: put "
    "scoreag.classifiers.gradient_masking.StraightThrough(f) in the place of a rounding f (BPDA), "
    "or attack it by square, which needs no gradient"
)
MIN_JUDGE_ACCURACY = 0.7  # below the interval of a judge's accuracy
CLEAN_IMAGES = "untouched images"


@torch.inference_mode(False)  # a gradient is needed, wherever this is called from
def check_classifier(classifier: Any, images: Images, require_grad: bool = True) -> int:
    """The number of classes of a classifier that returns logits for ``images``, one row each.

    Args:
        require_grad: whether its logits must have a gradient.
    """
    if isinstance(classifier, nn.Module) and any(part.training for part in classifier.modules()):
        raise ValueError("the classifier is in train mode; call its .eval() first")
    shape = getattr(classifier, "image_shape", None)
    if shape is not None and tuple(shape) != tuple(images.shape[1:]):
        wanted, found = (" x ".join(map(str, size)) for size in (shape, images.shape[1:]))
        raise ValueError(
            f"the classifier is one of images of {wanted}, and these are {found}; give a "
            "classifier of such images, or a score model and images of its own"
        )
    leaf = images.detach().clone().requires_grad_(require_grad)
    logits = _logits(classifier, leaf)
    if logits.shape[1] < 2:
        raise ValueError("the classifier knows one class only; expected at least 2")
    if not torch.isfinite(logits).all():
        raise ValueError("the classifier returned NaN or infinity on these images")
    if looks_like_probabilities(logits):
        raise ValueError(
            "the classifier returned probabilities (rows sum to 1); guidance needs logits: "
            "leave out its last softmax"
        )
    fault = diagnose_gradient(logits, leaf) if require_grad else ""
    if fault and fault != ZERO_GRADIENT:
        raise ValueError(f"the classifier {fault}")
    return int(logits.shape[1])


@torch.inference_mode(False)
def has_zero_gradient(classifier: Any, image_shape: Sequence[int], like: Tensor) -> bool:
    """Whether a classifier's gradient is zero everywhere in two images of noise.

    Noise, as the gradient may vanish in a gray image, whose pixels are all equal.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, *image_shape, generator=generator, dtype=torch.float32)
    leaf = noise.to(like).requires_grad_()
    return diagnose_gradient(_logits(classifier, leaf), leaf) == ZERO_GRADIENT


def _logits(classifier: Any, leaf: Images) -> Tensor:
    """Its logits, with a graph of the leaf; a defense uses no random numbers of a run for it."""
    shape, rows = tuple(leaf.shape[1:]), range(len(leaf))
    bound = reset_draws(select_rows(classifier, rows), rows, "check")
    with torch.set_grad_enabled(leaf.requires_grad):
        try:
            logits = bound(leaf)
        except Exception as error:  # a third-party network may raise anything
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"the classifier cannot take images of {shape}: {reason}") from error
    return check_logits_shape(logits, len(leaf))


def check_logits_shape(logits: Any, count: int) -> Tensor:
    """Logits, a row for each of ``count`` images; anything else is an error."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the classifier returned {found}; expected logits ({count}, classes)")
    return logits


def diagnose_gradient(logits: Logits, images: Images) -> str:
    """The fault of the gradient of ``logits`` at ``images``, a leaf; "" for none.

    The logits are summed with a weight for each class: a plain sum may be constant.
    """
    if not logits.requires_grad:
        return NO_GRADIENT
    weights = torch.linspace(1, 2, logits.shape[1], dtype=torch.float64).to(logits).square()
    try:
        (gradient,) = torch.autograd.grad((logits * weights).sum(), images, allow_unused=True)
    except RuntimeError as error:
        if "heckpoint" in str(error):
            return REENTRANT_CHECKPOINT
        return f"has no gradient of its images: {' '.join(str(error).split())[:200]}"
    if gradient is None:
        return NO_GRADIENT
    return "" if bool((gradient != 0).any()) else ZERO_GRADIENT  # NaN is not zero


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest number of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def outputs_match(a: Tensor, b: Tensor) -> bool:
    """Whether two outputs are equal up to ``DETERMINISM_RTOL``."""
    return relative_difference(a, b) <= DETERMINISM_RTOL


def validate_judge(
    judge: Any,
    classifier: Classifier | None,
    images: Images,
    class_count: int,
    classes: Sequence[str] = (),
) -> Classifier | None:
    """The reference classifier with its weights held constant; None where there is none.

    Args:
        images: one image of the run or more.
        class_count: the number of classes of the attacked classifier, which must be its own, too.
        classes: their names, where they are known; the judge's are matched to them.
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
    if classifier is not None and is_same_network(judge, classifier, images):
        raise ValueError(
            "the judge is the classifier that is attacked (the same weights), so it cannot tell "
            "whether an image still shows its class; give another judge, trained apart, or none"
        )
    if isinstance(judge, nn.Module) and not isinstance(judge, NormalizedClassifier):
        judge = wrap_classifier(judge)
    try:
        count = check_classifier(judge, images, require_grad=False)
    except ValueError as error:
        raise ValueError(f"the judge cannot be asked: {error}; give another judge") from error
    check_names(judge, count - can_reject(judge), "judge")
    fitted = _fit_judge(judge, classes, known_groups(classifier))
    count = count if fitted is judge else len(classes)
    if count != class_count:
        raise ValueError(
            f"the judge tells {count} classes apart, and the classifier {class_count}; give a "
            "judge that was trained on the same classes"
        )
    return fitted


def _fit_judge(judge: Classifier, classes: Sequence[str], groups: Groups) -> Classifier:
    """The judge for ``classes``, where both sides have names."""
    named = not lacks_class_names(classes) and known_names(judge)
    if not named or not isinstance(judge, NormalizedClassifier):
        return judge
    try:
        return select_classes(judge, classes, groups)
    except ValueError as error:
        raise ValueError(
            f"the judge is of other classes than the classifier: {error}; give another judge"
        ) from error


def is_same_network(a: Any, b: Any, images: Images | None = None) -> bool:
    """Whether two classifiers have the same network, inside any defense or normalization.

    So it is where one is a part of the other, or all weights of one are among the other's.
    Functions, whose weights are hidden, are compared by their outputs for images like ``images``.
    """
    a, b = _unwrap(a), _unwrap(b)
    if a is b:
        return True
    if isinstance(a, nn.Module) and isinstance(b, nn.Module):
        is_part = any(one is b for one in a.modules()) or any(one is a for one in b.modules())
        return is_part or _has_weights_of(b, a) or _has_weights_of(a, b)
    return images is not None and _same_outputs(a, b, images)


def describe_weak_judge(name: str, accuracy: Proportion, class_count: int = 0) -> str:
    """Why a reference classifier of this accuracy proves little; "" where it is accurate."""
    low = accuracy.interval[0]
    if low >= MIN_JUDGE_ACCURACY:
        return ""
    if not accuracy.total:
        return f"how often the judge {name} is right on untouched images is not known"
    text, better = f"the judge {name} is right on {accuracy}", "a better judge"
    if class_count and low <= 1 / class_count:
        text += f", which is not clearly better than chance (1 of {class_count})"
    elif accuracy.value >= MIN_JUDGE_ACCURACY:
        text += f", too few to show that it is right on {100 * MIN_JUDGE_ACCURACY:.0f} % or more"
        better = "more images"
    return f"{text}: what it says of changed images means little; give {better}"


def _unwrap(classifier: Any) -> Any:
    """The network itself, without wrappers that have no parameters of their own."""
    while True:
        inner = [getattr(classifier, "classifier", None)]  # of a defense
        if not hasattr(classifier, "forward_unclamped"):
            inner = list(classifier.children()) if isinstance(classifier, nn.Module) else []
            if inner and [*classifier.parameters(recurse=False)]:
                return classifier
        if len(inner) != 1 or inner[0] is None:
            return classifier
        classifier = inner[0]


def _has_weights_of(a: nn.Module, b: nn.Module) -> bool:
    """Whether ``b`` has weights, and ``a`` has all of them."""
    weights = _weight_digests(list(b.parameters()) or list(b.buffers()))
    return bool(weights) and not weights - _weight_digests([*a.parameters(), *a.buffers()])


def _weight_digests(tensors: list[Tensor]) -> "Counter[str]":
    """Digests of those that are not constant, in half precision, so that a halved copy agrees."""
    digests: Counter[str] = Counter()
    for tensor in tensors:
        values = tensor.detach().half().cpu().contiguous()
        if values.numel() > 1 and bool((values != values.flatten()[0]).any()):
            data = repr(tuple(values.shape)).encode() + values.numpy().tobytes()
            digests[hashlib.sha256(data).hexdigest()] += 1
    return digests


@torch.no_grad()
def _same_outputs(a: Any, b: Any, images: Images) -> bool:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((2, *images.shape[1:]), generator=generator).to(images)
    try:
        one, other = a(noise), b(noise)
    except Exception:  # a third-party function may raise anything; it is checked elsewhere
        return False
    return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
